"""Philox4x32-10, a counter-based random generator (Salmon et al. 2011), in torch integer arithmetic.

The same words come out on every device, and Triton's generator computes the same function. `random_bits` defines the
signs of `rademacher`; `rademacher_numba` and `rademacher_triton` are fast ways to the same bits.
"""

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def _multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    # The 64-bit product wraps around int64 without losing bits, so both halves can be cut out of it.
    product = word * multiplier
    return (product >> 32) & MASK, product & MASK


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Return four 32-bit words for each counter.

    Args:
        counter: Four broadcastable int64 tensors with values in [0, 2^32).
        key: Two integers in [0, 2^32).

    Returns:
        Four int64 tensors with values in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return c0, c1, c2, c3


def random_bits(rows: Int[Tensor, " rows"], width: int, seed: int) -> UInt8[Tensor, "rows width"]:
    """Return `width` random bits for each row number; bit j of a row depends on (seed, row, j) alone.

    Args:
        rows: Row numbers in [0, 2^32), int64.
        width: Number of bits a row.
        seed: An integer in [0, 2^64); its halves are the key.

    Returns:
        0 or 1 as uint8: row i, bit j is bit j % 32 of word (j // 32) % 4 at counter (i, j // 128, 0, 0).
    """
    groups = torch.arange(-(-width // 128), device=rows.device)
    zero = torch.zeros((), dtype=torch.int64, device=rows.device)
    words = philox((rows[:, None], groups[None, :], zero, zero), (seed & MASK, seed >> 32))
    stacked = torch.stack(torch.broadcast_tensors(*words), dim=-1).reshape(len(rows), -1)
    # Bytes first: shifting 8-bit numbers moves an eighth of the memory that shifting 64-bit ones would.
    octets = torch.stack([(stacked >> shift) & 0xFF for shift in (0, 8, 16, 24)], dim=-1).to(torch.uint8)
    bits = torch.stack([(octets >> shift) & 1 for shift in range(8)], dim=-1)
    return bits.reshape(len(rows), -1)[:, :width]
