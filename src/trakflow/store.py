"""Arrays on disk: whole or absent, checksummed, and carrying where they came from.

An array file is a safetensors file whose header holds, as a JSON string with its own sha256,

- ``provenance``: what the writer says of the contents (stage, fingerprints, index range, dtype), and
- ``checksums``: for each array an xxh3_128 of every block of ``rows_per_block`` leading rows, its type and shape, so
  that a reader that streams rows verifies exactly what it reads. They find damage, not forgery: whoever can write the
  file can write its checksums. A cryptographic hash would find no more damage and take longer than reading does.

Any safetensors reader can open it, and equal contents give equal bytes. Writing goes to a temporary name in the same
folder, then renames.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import xxhash
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trakflow.errors import StoreError

# Small enough that a block is still in the processor's cache when it is used after it was verified.
BLOCK_BYTES = 1 << 20
METADATA = "trakflow"
CHECKSUM = "xxh3_128"
# What safetensors calls the types that numpy has.
TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` on success and disappears on failure.

    Raises:
        StoreError: The file cannot be written, for example because the disk is full or the folder read-only.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: matplotlib, pyarrow and pandas choose a format by it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise StoreError(_cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"{path} cannot be written: {reason}. Nothing was left behind and what was there before is unchanged; make "
        "room or correct the permissions, then run the same command again."
    )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: object) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf8")


def write_json_once(path: Path | str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Write a JSON object unless the file is there; of several processes that try at once, one succeeds.

    Returns:
        What the file holds afterwards: the value, or what another wrote.

    Raises:
        StoreError: The file cannot be written, or what is there is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        # Linked rather than renamed: a name that is taken is an error then, and not overwritten.
        own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        write_json(own, value)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
        except OSError as error:
            raise StoreError(_cannot_write(path, error)) from error
        finally:
            own.unlink()
    return read_facts(path)


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} cannot be read as JSON ({error}); delete it and run the same command again."
        ) from error


def read_facts(path: Path | str, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds an object with at least these keys.

    Raises:
        StoreError: The file is missing, is not JSON, or holds something else.
    """
    found = read_json(path)
    missing = [key for key in keys if key not in found] if isinstance(found, dict) else ["object"]
    if missing:
        raise StoreError(f"{path} holds no {', '.join(missing)}; delete it and run the same command again.")
    return found


def map_numpy(path: Path | str, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Map a `.npy` file of plain numbers; nothing is read, and no memory taken, before it is looked at.

    Args:
        path: The file.
        mode: `r`, or `c` for an array that can be changed in memory.

    Raises:
        StoreError: It is missing, cut off, of another kind, or holds anything but numbers.
    """
    try:
        with np.errstate(over="ignore"):  # of a size that is wrong, which is an error below
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of several")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"expected numbers, found {array.dtype}")
    except Exception as error:
        # numpy's parser of headers has no error of its own: whatever it stumbles over comes out.
        raise StoreError(
            f"{path} is not a whole .npy array ({' '.join(str(error).split())[:200]}); delete it and run the same "
            "command again."
        ) from error
    return array


# Takes the number of the first row, the number of the first column and the values to lay there.
WriteBlock = Callable[[int, int, np.ndarray], None]


def _reserve(path: Path) -> None:
    """Have the disk set aside the file's size, where the system (not macOS) and the file system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


@contextlib.contextmanager
def numpy_file(path: Path | str, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[WriteBlock]:
    """Yield a function that fills a `.npy` array on disk block by block; it appears at `path` when all is written.

    No more than the block at hand is in memory.
    """
    with atomic_path(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        offset, row_bytes = array.offset, array.nbytes // max(1, len(array))
        del array
        # A full disk must be an error now, not a crash of the process at the first write into the mapping.
        _reserve(temporary)

        def write(row: int, column: int, block: np.ndarray) -> None:
            # A mapping of these rows only: pages of a mapping that stays open count as the process's memory.
            place = (len(block), *shape[1:])
            rows = np.memmap(temporary, dtype, "r+", offset + row * row_bytes, place)
            if rows.ndim == 1:
                rows[...] = block
            else:
                rows[:, column : column + block.shape[1]] = block

        yield write


def write_numpy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as ``.npy`` atomically."""
    # Not by np.save, whose error on a full disk does not say that the disk is full.
    with numpy_file(path, array.shape, array.dtype.type) as write:
        write(0, 0, array)


def fingerprint(value: object) -> str:
    """Return a short hash of a JSON value, equal for equal values whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: Path | str) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_per_block(shape: Sequence[int], itemsize: int) -> int:
    """Return how many leading rows make a checksummed block of about ``BLOCK_BYTES``."""
    row_bytes = max(1, itemsize * int(np.prod(shape[1:], dtype=np.int64)))
    return max(1, BLOCK_BYTES // row_bytes)


def _checksums(array: np.ndarray) -> dict[str, Any]:
    rows = rows_per_block(array.shape, array.itemsize)
    return {
        "rows": rows,
        CHECKSUM: [block_digest(array[start : start + rows]) for start in block_starts(len(array), rows)],
    }


def block_starts(total: int, rows: int) -> range:
    """Return the first row of each block of an array."""
    # An array without rows has one empty block, which vouches for its type and shape.
    return range(0, max(1, total), rows)


def block_digest(block: np.ndarray) -> str:
    """Return the checksum of a block's rows, type and shape."""
    digest = xxhash.xxh3_128(f"{block.dtype.name} {block.shape}".encode())
    digest.update(_bytes(block))
    return digest.hexdigest()


def _bytes(block: np.ndarray) -> memoryview:
    """The memory of a contiguous array, without a copy."""
    return block.reshape(-1).view(np.uint8).data


def sealed_header(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an array file, with a checksum of its own; its length depends on that of `facts` alone."""
    text = json.dumps(facts, sort_keys=True)
    # One entry: safetensors writes several in an order that differs from run to run.
    return {METADATA: json.dumps({"facts": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})}


def _unsealed(metadata: Mapping[str, str]) -> dict[str, Any]:
    entry = json.loads(metadata[METADATA])
    if hashlib.sha256(entry["facts"].encode()).hexdigest() != entry["sha256"]:
        raise ValueError("its header is damaged")
    return json.loads(entry["facts"])


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], provenance: Mapping[str, Any]) -> None:
    """Write named arrays with their provenance.

    Args:
        path: Where to; parents are made.
        arrays: Arrays of any numeric dtype with at least one dimension.
        provenance: JSON-able facts for the reader to compare.

    Raises:
        StoreError: The file cannot be written, or cannot hold such an array; no part of it remains.
    """
    for name, array in arrays.items():
        if not array.ndim or array.dtype.type not in TYPES.values():
            raise StoreError(
                f"{path} cannot hold '{name}': it is {array.dtype} of shape {array.shape}, and array files hold rows "
                f"of {', '.join(np.dtype(kind).name for kind in TYPES.values())}."
            )
    contiguous = {name: _native(array) for name, array in arrays.items()}
    checksums = {name: _checksums(array) for name, array in contiguous.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=sealed_header({"provenance": provenance, "checksums": checksums}))


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in rows one after another, their bytes in this machine's order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


class _Place(NamedTuple):
    """Where in a file an array lies."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))


def _places(path: Path) -> dict[str, _Place]:
    """Read where each array lies from a header that `safe_open` has found to be sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: _Place(np.dtype(TYPES[entry["dtype"]]), tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _require_sound(provenance: object, checksums: object, places: Mapping[str, _Place]) -> None:
    """Refuse what no writer of ours wrote: whoever can write a file can write a header that lies.

    Raises:
        ValueError: Something is missing, or of another type or length than the arrays need.
    """
    if not isinstance(provenance, dict) or not isinstance(checksums, dict) or set(places) != set(checksums):
        raise ValueError("its header is damaged")
    for name, place in places.items():
        entry = checksums[name]
        if not isinstance(entry, dict) or CHECKSUM not in entry:
            raise ValueError("an older version of trakflow wrote it, with other checksums")
        digests, rows = entry[CHECKSUM], entry.get("rows")
        if not place.shape or type(rows) is not int or not isinstance(digests, list):
            raise ValueError("its header is damaged")
        if math.prod(max(length, 1) for length in place.shape) > sys.maxsize // 8:
            raise ValueError("its header is damaged")
        if rows != rows_per_block(place.shape, place.dtype.itemsize) or len(digests) != len(
            block_starts(place.shape[0], rows)
        ):
            raise ValueError("its header is damaged")


class ArrayFile:
    """A file written by `write_arrays`, to be read with verification. It is open only while it is read.

    Args:
        path: The file.

    Raises:
        StoreError: The file is missing, truncated, or was not written by `write_arrays`.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                facts = _unsealed(file.metadata() or {})
            self.provenance: dict[str, Any] = facts["provenance"]
            self.checksums: dict[str, Any] = facts["checksums"]
            self._places = _places(self.path)
            _require_sound(self.provenance, self.checksums, self._places)
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a whole array file of trakflow ({error}). Delete it and run the same command again: "
                "only what is missing is recomputed."
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self.checksums

    @property
    def names(self) -> list[str]:
        """Names of the arrays, sorted."""
        return sorted(self.checksums)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one array, without reading it."""
        return self._known(name).shape

    def starts(self, name: str) -> range:
        """First rows of the blocks in which one array is read."""
        return block_starts(self._known(name).shape[0], self.checksums[name]["rows"])

    def read(self, name: str, first: int = 0, last: int | None = None) -> Shaped[np.ndarray, "..."]:
        """Read the rows [first, last) of one array, by default all, verified; besides, one block is in memory.

        Raises:
            StoreError: There is no such array, or its bytes are not those that were written.
        """
        place, rows = self._known(name), self.checksums[name]["rows"]
        last = place.shape[0] if last is None else min(last, place.shape[0])
        array = np.empty((max(0, last - first), *place.shape[1:]), place.dtype)
        with self._opened() as file:
            for start in self.starts(name):
                stop = min(start + rows, place.shape[0])
                if first <= start and stop <= last:
                    self._fill(file, name, start, array[start - first : stop - first])
                elif start < last and stop > first:
                    block = np.empty((stop - start, *place.shape[1:]), place.dtype)
                    self._fill(file, name, start, block)
                    left, right = max(first, start), min(last, stop)
                    array[left - first : right - first] = block[left - start : right - start]
        return array

    def blocks(
        self, name: str, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, Shaped[np.ndarray, "rows ..."]]]:
        """Yield ``(first row, rows)`` of one array in order, each block verified as it is read.

        A block's memory is used again for the next one: copy what is to be kept.

        Args:
            name: The array.
            first: Blocks that end before this row are left out,
            last: and blocks that begin at this one or later.

        Raises:
            StoreError: As for `read`.
        """
        place, rows = self._known(name), self.checksums[name]["rows"]
        total = place.shape[0]
        last = max(total, 1) if last is None else last
        buffer = np.empty((min(rows, total), *place.shape[1:]), place.dtype)
        chosen = [start for start in self.starts(name) if start + rows > first and start < last]
        with self._opened() as file:
            for start in chosen:
                if start != chosen[-1]:
                    self._prefetch(file, place, start + rows, rows)
                block = buffer[: min(rows, total - start)]
                self._fill(file, name, start, block)
                yield start, block

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb", buffering=0) as file:
                yield file
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be read ({error}); delete it and run the same command again."
            ) from error

    def _prefetch(self, file: IO[bytes], place: _Place, start: int, rows: int) -> None:
        """Have the next block read from the disk while this one is worked on."""
        if hasattr(os, "posix_fadvise"):  # not on macOS
            offset, size = place.offset + start * place.row_bytes, rows * place.row_bytes
            os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_WILLNEED)

    def _fill(self, file: IO[bytes], name: str, start: int, block: np.ndarray) -> None:
        """Read the block that begins at a row, and refuse it if it is not what was written."""
        place, facts = self._known(name), self.checksums[name]
        memory = _bytes(block)
        file.seek(place.offset + start * place.row_bytes)
        filled = 0
        # The system may read less than was asked for.
        while filled < len(memory) and (more := file.readinto(memory[filled:])):  # type: ignore[attr-defined]
            filled += more
        if filled < len(memory) or block_digest(block) != facts[CHECKSUM][start // facts["rows"]]:
            raise StoreError(
                f"{self.path}: rows {start} to {start + len(block) - 1} of '{name}' are not what was written (checksum "
                "mismatch). Delete the file and run the same command again: only what is missing is recomputed."
            )

    def _known(self, name: str) -> _Place:
        if name not in self.checksums:
            raise StoreError(f"{self.path} holds no array '{name}'; it holds {', '.join(self.names)}.")
        return self._places[name]


def content(file: ArrayFile) -> str:
    """Return a hash of a file's contents, from its checksums: equal contents give equal hashes."""
    return fingerprint(file.checksums)


def require_agreement(files: Sequence[ArrayFile], keys: Sequence[str]) -> None:
    """Refuse files whose provenance differs in any of the keys.

    Raises:
        StoreError: Names the first file that disagrees with the first one, the key, and both values.
    """
    for file in files[1:]:
        for key in keys:
            mine, first = file.provenance.get(key), files[0].provenance.get(key)
            if mine != first:
                raise StoreError(
                    f"{file.path} and {files[0].path} do not belong together: '{key}' is {mine!r} in the former and "
                    f"{first!r} in the latter. Delete the one that is out of date and run the same command again."
                )
