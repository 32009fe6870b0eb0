"""Arrays that memory cannot hold: made, checksummed and written a few rows at a time, into a common array file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped

from trakflow.errors import DataError
from trakflow.store.checksums import CHECKSUM, block_digest, block_starts, rows_per_block
from trakflow.store.files import atomic_path
from trakflow.store.headers import TYPES, sealed_header

# How much is asked for at once: enough that a source can make its rows on several threads.
CHUNK_BYTES = 1 << 26
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}


@dataclass(frozen=True)
class StreamedRows:
    """An array of integers whose rows are made when they are asked for.

    Attributes:
        shape: One row an example.
        dtype: An integer type. Floats would have to be made twice, as they are looked through for NaN.
        make: Takes the first row and the one after the last; returns these rows.

    Raises:
        DataError: The type is no integer type.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[int, int], np.ndarray]

    def __post_init__(self) -> None:
        if self.dtype.kind not in "iu":
            raise DataError(f"StreamedRows must be integers, for example pixels as bytes, but have dtype {self.dtype}.")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows ..."]:
        """Return some consecutive rows.

        Raises:
            DataError: The source made others than were asked for.
        """
        first, last, _ = rows.indices(len(self))
        made = self.make(first, last)
        if made.shape != (last - first, *self.shape[1:]) or made.dtype != self.dtype:
            raise DataError(
                f"Rows {first} to {last - 1} were to be {(last - first, *self.shape[1:])} of {self.dtype}, but are "
                f"{made.shape} of {made.dtype}."
            )
        return np.ascontiguousarray(made)


def write_streamed(
    path: Path | str, arrays: Mapping[str, np.ndarray | StreamedRows], provenance: Mapping[str, Any]
) -> None:
    """Write what `trakflow.store.array_file.write_arrays` would, with a chunk of rows in memory at a time.

    Args:
        path: Where to; parents are made.
        arrays: Arrays of any numeric dtype with at least one dimension.
        provenance: JSON-able facts for the reader to compare.

    Raises:
        DataError: A source made other rows than it said.
        StoreError: The file cannot be written; no part of it remains.
    """
    # The widest types first, so that every array lies at a multiple of its own width.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    # A header of the same length, whose checksums are filled in when they are known.
    checksums = {name: _no_checksums(arrays[name]) for name in order}
    length = len(_header(arrays, order, checksums, provenance))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.seek(8 + length)
        for name in order:
            checksums[name][CHECKSUM] = _write_rows(file, arrays[name], checksums[name]["rows"])
        file.seek(0)
        file.write(length.to_bytes(8, "little") + _header(arrays, order, checksums, provenance))


def _no_checksums(array: np.ndarray | StreamedRows) -> dict[str, Any]:
    rows = rows_per_block(array.shape, array.dtype.itemsize)
    return {"rows": rows, CHECKSUM: ["0" * 32] * len(block_starts(len(array), rows))}


def _write_rows(file: IO[bytes], array: np.ndarray | StreamedRows, rows: int) -> list[str]:
    """Write all rows, and return the checksums of their blocks."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    at_once = rows * max(1, CHUNK_BYTES // (rows * row_bytes))
    found = []
    for start in block_starts(len(array), at_once):
        chunk = np.ascontiguousarray(array[start : min(start + at_once, len(array))])
        found += [block_digest(chunk[first : first + rows]) for first in block_starts(len(chunk), rows)]
        file.write(chunk.reshape(-1).view(np.uint8).data)
    return found


def _header(
    arrays: Mapping[str, np.ndarray | StreamedRows],
    order: list[str],
    checksums: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": sealed_header({"provenance": provenance, "checksums": checksums})}
    offset = 0
    for name in order:
        array = arrays[name]
        size = array.dtype.itemsize * int(np.prod(array.shape, dtype=np.int64))
        entries[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
