"""Rows that arrive in any order and from several processes, kept in files that are only appended to.

A folder of record files, one a writing process, each a sequence of records

    length of the header (8 bytes, little-endian) | header (JSON) | the arrays, one after another

whose header names the arrays, their types, shapes and the xxh3_128 of their bytes. A record is handed to the system
in one piece as soon as a batch is done, so that nothing is lost when the process is killed; one that was cut off is the
last of its file, is recognised by its length or checksum, and counts as never written. No file has two writers, so
there is nothing to lock.
"""

import contextlib
import json
import math
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Bool, Int64, Shaped

from trakflow.errors import StoreError

SUFFIX = ".records"
# Every record's numbers of its rows, beside which a writer may put what it likes.
ROWS = "rows"


@dataclass(frozen=True)
class Record:
    """Where a record lies; its arrays are read when they are asked for."""

    path: Path
    offset: int
    header: Mapping[str, Any]

    def read(self, names: Collection[str] | None = None) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
        """Return arrays, verified.

        Args:
            names: Which; None for all.

        Raises:
            StoreError: They are not what was written.
        """
        arrays, offset = {}, self.offset
        with self.path.open("rb") as file:
            for name, (dtype, shape, checksum) in self.header["arrays"].items():
                size = _size(dtype, shape)
                if names is None or name in names:
                    file.seek(offset)
                    memory = file.read(size)
                    self._verify(name, memory, checksum)
                    arrays[name] = np.frombuffer(memory, np.dtype(dtype)).reshape(shape)
                offset += size
        return arrays

    def _verify(self, name: str, memory: bytes, checksum: str) -> None:
        if xxhash.xxh3_128(memory).hexdigest() != checksum:
            raise StoreError(
                f"{self.path} is damaged: '{name}' of a record is not what was written (checksum mismatch). Delete the "
                "file; the rows that it held are featurized again when they come by."
            )


def _size(dtype: str, shape: Sequence[int]) -> int:
    return np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))


class Recorder:
    """Appends to a file of its own in a folder of record files; the file is made by the first record.

    Args:
        folder: The folder, which need not exist.
    """

    def __init__(self, folder: Path):
        self._path = folder / f"{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"

    def append(self, arrays: Mapping[str, Shaped[np.ndarray, "rows ..."]]) -> None:
        """Append one record.

        Args:
            arrays: Arrays with one row an example, among them `rows` (int64), the numbers of the examples.

        Raises:
            StoreError: It cannot be written, for example because the disk is full; no part of it counts.
        """
        parts = [np.ascontiguousarray(array) for array in arrays.values()]
        memories = [part.tobytes() for part in parts]
        facts = [
            [part.dtype.str, part.shape, xxhash.xxh3_128(memory).hexdigest()]
            for part, memory in zip(parts, memories, strict=True)
        ]
        text = json.dumps({"arrays": dict(zip(arrays, facts, strict=True))}).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(b"".join([len(text).to_bytes(8, "little"), text, *memories]))
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be written: {error.strerror or error}. What was featurized before is kept; make "
                "room or correct the permissions, then run the same code again."
            ) from error

    def _write(self, record: bytes) -> None:
        # Opened for each record: a notebook keeps an object for days, and a forked process must not share an offset.
        with self._path.open("ab", buffering=0) as file:
            start = file.tell()
            try:
                written = 0
                while written < len(record):
                    written += file.write(record[written:])
            except BaseException:
                # Or the next record would come after half of this one, and be lost with it.
                with contextlib.suppress(OSError):
                    file.truncate(start)
                raise


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the whole records of a folder, file by file; a folder that is not there has none.

    Raises:
        StoreError: A file holds something else.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while (header := _header(file.read(8), file)) is not None:
                begin = file.tell()
                end = begin + sum(_size(dtype, shape) for dtype, shape, _ in header["arrays"].values())
                if end > size:
                    break
                yield Record(path, begin, header)
                file.seek(end)


def _header(prefix: bytes, file: Any) -> dict[str, Any] | None:
    """Read a record's header; None where the file ends or the record was cut off."""
    length = int.from_bytes(prefix, "little")
    # A cut-off file can end anywhere, but what is there was written by us.
    if len(prefix) < 8 or len(text := file.read(min(length, 1 << 20))) < length:
        return None
    try:
        header = json.loads(text)
        for dtype, shape, checksum in header["arrays"].values():
            sides = isinstance(shape, list) and shape and all(type(side) is int and side >= 0 for side in shape)
            if not (sides and isinstance(dtype, str) and np.dtype(dtype).kind in "biuf" and isinstance(checksum, str)):
                raise ValueError(f"{dtype} of shape {shape}")
            if _size(dtype, shape) != np.dtype(dtype).itemsize * math.prod(shape):
                raise ValueError(f"shape {shape}")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StoreError(
            f"{file.name} is damaged: it holds no record where one should begin ({error}). Delete the file; the rows "
            "that it held are featurized again when they come by."
        ) from error
    return header


def delete_records(folder: Path) -> None:
    """Delete the record files of a folder, which others may be deleting too, and the folder where it is then empty."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


class Gathered:
    """The rows of a folder of record files, in order, read a range at a time.

    Args:
        folder: The folder.
        total: How many rows there are to be.
    """

    def __init__(self, folder: Path, total: int):
        self._records = list(read_records(folder))
        # Which record, and which row of it, holds each row; the first of several, which are all the same.
        self._record = np.full(total, -1, np.int64)
        self._place = np.zeros(total, np.int64)
        for number, record in enumerate(self._records):
            rows = record.read([ROWS]).get(ROWS)
            if rows is None or rows.dtype.kind != "i" or rows.ndim != 1 or ((rows < 0) | (rows >= total)).any():
                raise StoreError(
                    f"{record.path} holds a record of other examples than 0 to {total - 1}. Delete the file; its rows "
                    "are featurized again when they come by."
                )
            new = self._record[rows] < 0
            self._record[rows[new]], self._place[rows[new]] = number, np.flatnonzero(new)

    @property
    def present(self) -> Bool[np.ndarray, " total"]:
        """Which rows are there."""
        return self._record >= 0

    def read(
        self, first: int, last: int, names: Collection[str] | None = None
    ) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
        """Return arrays of the rows [first, last), all of which are there; all arrays, or the named ones.

        Raises:
            StoreError: A record is damaged.
        """
        found: dict[str, np.ndarray] = {}
        which = self._record[first:last]
        for number in np.unique(which):
            arrays = self._records[number].read(names)
            places: Int64[np.ndarray, " some"] = np.flatnonzero(which == number)
            for name, array in arrays.items():
                if name not in found:
                    found[name] = np.empty((last - first, *array.shape[1:]), array.dtype)
                found[name][places] = array[self._place[first + places]]
        return found
