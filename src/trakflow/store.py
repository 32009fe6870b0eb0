"""Arrays on disk: whole or absent, checksummed, and carrying where they came from.

An array file is a safetensors file whose header holds, as a JSON string with its own sha256,

- ``provenance``: what the writer says of the contents (stage, fingerprints, index range, dtype), and
- ``checksums``: for each array a sha256 of every block of ``rows_per_block`` leading rows, its type and its shape, so
  that a reader that streams rows verifies exactly what it reads.

Any safetensors reader can open it, and equal contents give equal bytes. Writing goes to a temporary name in the same
folder, then renames.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trakflow.errors import StoreError

BLOCK_BYTES = 1 << 24
METADATA = "trakflow"


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


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read as JSON ({error}); delete it and run the same command again."
        ) from error


@contextlib.contextmanager
def numpy_file(path: Path | str, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[np.ndarray]:
    """Yield a `.npy` array on disk to be filled piece by piece; it appears at `path` when all is written."""
    with atomic_path(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        # A full disk must be an error now, not a crash of the process at the first write into the mapping.
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        yield array
        array.flush()


def write_numpy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as ``.npy`` atomically."""
    # Not by np.save, whose error on a full disk does not say that the disk is full.
    with numpy_file(path, array.shape, array.dtype.type) as stored:
        stored[...] = array


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
    return {"rows": rows, "sha256": [_digest(array[start : start + rows]) for start in _starts(len(array), rows)]}


def _starts(total: int, rows: int) -> range:
    # An array without rows has one empty block, which vouches for its type and shape.
    return range(0, max(1, total), rows)


def _digest(block: np.ndarray) -> str:
    digest = hashlib.sha256(f"{block.dtype.name} {block.shape}".encode())
    digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def _sealed(facts: Mapping[str, Any]) -> dict[str, str]:
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
        StoreError: The file cannot be written; no part of it remains.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    checksums = {name: _checksums(array) for name, array in contiguous.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=_sealed({"provenance": provenance, "checksums": checksums}))


class ArrayFile:
    """A file written by `write_arrays`, opened for verified reading.

    Args:
        path: The file.

    Raises:
        StoreError: The file is missing, truncated, or was not written by `write_arrays`.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self._file = safe_open(str(path), framework="numpy")
            facts = _unsealed(self._file.metadata() or {})
            self.provenance: dict[str, Any] = facts["provenance"]
            self.checksums: dict[str, Any] = facts["checksums"]
            if set(self._file.keys()) != set(self.checksums):
                raise ValueError("its header is damaged")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
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
        return tuple(self._file.get_slice(self._known(name)).get_shape())

    def read(self, name: str) -> np.ndarray:
        """Read one whole array, verified.

        Raises:
            StoreError: There is no such array, or its bytes are not those that were written.
        """
        return np.concatenate([block for _, block in self.blocks(name)])

    def blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(first row, rows)`` of one array in order, each block verified as it is read.

        Raises:
            StoreError: As for `read`.
        """
        stored = self._file.get_slice(self._known(name))
        total, rows = stored.get_shape()[0], self.checksums[name]["rows"]
        for number, start in enumerate(_starts(total, rows)):
            # safetensors slices no array without rows.
            block = stored[start : min(start + rows, total)] if total else self._file.get_tensor(name)
            if _digest(block) != self.checksums[name]["sha256"][number]:
                raise StoreError(
                    f"{self.path}: rows {start} to {min(start + rows, total) - 1} of '{name}' are not what was "
                    "written (checksum mismatch). Delete the file and run the same command again: only what is "
                    "missing is recomputed."
                )
            yield start, block

    def _known(self, name: str) -> str:
        if name not in self.checksums:
            raise StoreError(f"{self.path} holds no array '{name}'; it holds {', '.join(self.names)}.")
        return name


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
