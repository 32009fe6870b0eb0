"""`.npy` files: mapped rather than read, and written block by block."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from trakflow.errors import StoreError
from trakflow.store.files import atomic_path

# Takes the number of the first row, the number of the first column and the values to lay there.
WriteBlock = Callable[[int, int, np.ndarray], None]


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
