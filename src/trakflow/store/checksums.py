"""Checksums of arrays, block by block of leading rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

# Small enough that a block is still in the processor's cache when it is used after it was verified.
BLOCK_BYTES = 1 << 20
CHECKSUM = "xxh3_128"


def rows_per_block(shape: Sequence[int], itemsize: int) -> int:
    """Return how many leading rows make a checksummed block of about ``BLOCK_BYTES``."""
    row_bytes = max(1, itemsize * int(np.prod(shape[1:], dtype=np.int64)))
    return max(1, BLOCK_BYTES // row_bytes)


def array_checksums(array: np.ndarray) -> dict[str, Any]:
    """Return the checksums of an array's blocks, and how many rows a block has."""
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
    digest.update(memory_of(block))
    return digest.hexdigest()


def memory_of(block: np.ndarray) -> memoryview:
    """The memory of a contiguous array, without a copy."""
    return block.reshape(-1).view(np.uint8).data
