"""`rademacher` on a GPU: a Triton kernel that generates the signs on the fly and multiplies by them at once.

A program makes the signs of ROWS rows by 128 columns, which is one Philox call a row, and uses them for BATCH examples.
The rows of a large parameter are divided among programs; each writes a partial sum of its own, and these are summed in
order, so that the same call gives the same bits. Nothing is tuned at run time for the same reason.

Accuracy is float32's at the speed of 16-bit tensor cores: a sign is exact in bfloat16, and a float32 number is exactly
the sum of three bfloat16 numbers (8 bits of its 24 each), so three products that accumulate in float32 lose nothing on
the way in.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

# Columns of one Philox call; the kernel relies on it.
COLUMNS = 128
# About as much as the registers of an A100 or H100 hold, twice on a multiprocessor: one program generates signs
# while another multiplies.
BATCH = 64
ROWS = 32
WARPS = 4
# Programs for a small batch: several for each multiprocessor of any GPU.
PROGRAMS = 1024
# A partial sum is k numbers for at least so many rows read.
LEAST_ROWS = 256
# Bounds the memory of partial sums: at most 512 KiB an example, whatever k.
EXAMPLES = 256


@triton.jit
@no_type_check
def _signs(seed, rows, group, ROWS: tl.constexpr):
    """One for bit 1 of `philox.random_bits` and minus one for 0: bfloat16 (ROWS x 128), rows uint32."""
    zero = tl.zeros_like(rows)
    word0, word1, word2, word3 = tl.philox(seed, rows, zero + group, zero, zero)
    words = tl.reshape(tl.join(tl.join(word0, word2), tl.join(word1, word3)), [ROWS, 4])
    bits = words[:, :, None] >> tl.arange(0, 32).to(tl.uint32)[None, None, :]
    # Bit 15 is the sign of a bfloat16: minus one is 0xBF80, and a one in it makes that plus one.
    patterns = tl.reshape((bits << 15) ^ 0xBF80, [ROWS, 128])
    return patterns.to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
@no_type_check
def _leading_bits(values):
    """Cut float32 after the 8 bits of precision that bfloat16 holds."""
    return (values.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True)


# Seeds would otherwise compile a variant for each way they happen to be divisible.
@triton.jit(do_not_specialize=["seed", "first_row"])
@no_type_check
def partial_sums(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and numbers, no objects
    gradients,
    partials,
    seed,
    first_row,
    batch,
    size,
    k,
    rows_each,
    BATCH: tl.constexpr,
    ROWS: tl.constexpr,
    OPERAND: tl.constexpr,
):
    """Write each program's part of gradients (batch x size) @ signs (size x k) to partials (parts x batch x k).

    OPERAND is bfloat16; float32 for the interpreter, which has no bfloat16 products. The values are the same.
    """
    group, part = tl.program_id(0), tl.program_id(1).to(tl.int64)
    examples = (tl.program_id(2) * BATCH + tl.arange(0, BATCH)).to(tl.int64)[:, None]
    start = part * rows_each
    stop = tl.minimum(start + rows_each, size)
    sums = tl.zeros((BATCH, 128), tl.float32)
    for first in range(start, stop, ROWS):
        rows = first + tl.arange(0, ROWS)
        inside = (examples < batch) & (rows[None, :] < stop)
        values = tl.load(gradients + examples * size + rows[None, :], mask=inside, other=0.0)
        signs = _signs(seed, (first_row + rows).to(tl.uint32), group, ROWS).to(OPERAND)
        high = _leading_bits(values)
        rest = values - high
        middle = _leading_bits(rest)
        low = rest - middle
        # Tensor cores cut instead of rounding when they add, so they add few numbers, the small ones first.
        product = tl.dot(low.to(tl.bfloat16).to(OPERAND), signs)
        product = tl.dot(middle.to(tl.bfloat16).to(OPERAND), signs, product)
        product = tl.dot(high.to(tl.bfloat16).to(OPERAND), signs, product)
        sums += product
    columns = group * 128 + tl.arange(0, 128)[None, :]
    tl.store(partials + (part * batch + examples) * k + columns, sums, mask=(examples < batch) & (columns < k))


def project(
    features: Float[Tensor, "batch k"], gradients: Float[Tensor, "batch size"], seed: int, first_row: int = 0
) -> None:
    """Add the projection of gradients to features, in place: features += k^-0.5 gradients @ signs.

    The signs are the bits of `philox.random_bits`, 1 for +1 and 0 for -1. How rows are divided depends on size and k.

    Args:
        features: float32.
        gradients: float32, on the same device; on a CPU only under TRITON_INTERPRET=1.
        seed: In [0, 2^63).
        first_row: Number of the matrix's row that belongs to the first entry.
    """
    size, k = gradients.shape[1], features.shape[1]
    if gradients.numel() == 0:
        return
    groups = triton.cdiv(k, COLUMNS)
    parts = max(1, PROGRAMS // groups)
    rows_each = triton.cdiv(max(LEAST_ROWS, triton.cdiv(size, parts)), ROWS) * ROWS
    parts = triton.cdiv(size, rows_each)
    with torch.cuda.device_of(gradients):
        for own_features, own in zip(features.split(EXAMPLES), gradients.split(EXAMPLES), strict=True):
            partials = features.new_empty(parts, len(own), k)
            partial_sums[(groups, parts, triton.cdiv(len(own), BATCH))](
                own.contiguous(),
                partials,
                seed,
                first_row,
                len(own),
                size,
                k,
                rows_each,
                BATCH=BATCH,
                ROWS=ROWS,
                OPERAND=tl.bfloat16 if own.is_cuda else tl.float32,
                num_warps=WARPS,
            )
            own_features.add_(partials.sum(dim=0), alpha=k**-0.5)
