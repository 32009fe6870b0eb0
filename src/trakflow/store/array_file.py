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
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trakflow.errors import StoreError
from trakflow.store.checksums import CHECKSUM, array_checksums, block_digest, block_starts, memory_of
from trakflow.store.files import atomic_path, fingerprint
from trakflow.store.headers import TYPES, Place, places_of, require_sound, sealed_header, unsealed


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
    checksums = {name: array_checksums(array) for name, array in contiguous.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=sealed_header({"provenance": provenance, "checksums": checksums}))


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in rows one after another, their bytes in this machine's order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


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
                facts = unsealed(file.metadata() or {})
            self.provenance: dict[str, Any] = facts["provenance"]
            self.checksums: dict[str, Any] = facts["checksums"]
            self._places = places_of(self.path)
            require_sound(self.provenance, self.checksums, self._places)
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

    def _prefetch(self, file: IO[bytes], place: Place, start: int, rows: int) -> None:
        """Have the next block read from the disk while this one is worked on."""
        if hasattr(os, "posix_fadvise"):  # not on macOS
            offset, size = place.offset + start * place.row_bytes, rows * place.row_bytes
            os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_WILLNEED)

    def _fill(self, file: IO[bytes], name: str, start: int, block: np.ndarray) -> None:
        """Read the block that begins at a row, and refuse it if it is not what was written."""
        place, facts = self._known(name), self.checksums[name]
        memory = memory_of(block)
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

    def _known(self, name: str) -> Place:
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
