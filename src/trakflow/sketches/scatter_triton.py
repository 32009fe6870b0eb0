"""Scatter on an NVIDIA GPU: Triton kernels that gather instead, so that the same call gives the same bits.

Feature j of an example is the sum over rows r of the entries whose column c has h1(r) + c = j modulo k, of which a row
has at most one for each k columns. So a program makes some consecutive features of one example by itself: it reads
consecutive entries of each row that reaches them, every entry of the gradient is read once by somebody, and nobody adds
to what another one wrote. A gradient of rank one is multiplied on the way and never written out.
"""

from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from trakflow.sketches.hashing import ROWS_EACH
from trakflow.sketches.routes import BLOCK

# Features of a block, which one program makes, and rows that it reads at a time: 16 sums of a thread. The cost model of
# `routes` knows the block.
FEATURES = BLOCK
ROWS = 8
WARPS = 4
# What a GPU takes of programs in the third dimension of a grid.
EXAMPLES = 65535


@dataclass(frozen=True)
class RowRanges:
    """The rows that reach each block of features: `count` of them from `start` on, beginning again after the last.

    Attributes:
        row: In the order of their features.
        index: The feature of each.
        sign: And its sign.
        start: By block.
        count: By block.
        parts: Programs among which the rows of a block are divided.
    """

    row: Int[Tensor, " rows"]
    index: Int[Tensor, " rows"]
    sign: Float[Tensor, " rows"]
    start: Int[Tensor, " blocks"]
    count: Int[Tensor, " blocks"]
    parts: int

    @classmethod
    def of(cls, index: Int[Tensor, " rows"], sign: Float[Tensor, " rows"], columns: int, k: int) -> "RowRanges":
        """Find the rows of which an entry goes to some of a block's features.

        Args:
            index: Feature of each row's first entry.
            sign: Of each row.
            columns: Entries of a row, each of which goes to the next feature.
            k: Number of features.
        """
        ordered, row = torch.sort(index.long(), stable=True)
        first = torch.arange(0, k, FEATURES, device=index.device)
        last = (first + FEATURES).clamp(max=k) - 1
        lowest = first - columns + 1
        start = torch.searchsorted(ordered, lowest.remainder(k))
        stop = torch.searchsorted(ordered, last, right=True)
        count = torch.where(lowest < 0, len(index) - start + stop, stop - start)
        everything = last - lowest + 1 >= k
        start, count = start.masked_fill(everything, 0), count.masked_fill(everything, len(index))
        parts = max(1, -(-int(count.max()) // ROWS_EACH))
        return cls(row.int(), ordered.int(), sign[row], start.int(), count.int(), parts)


@triton.jit
@no_type_check
def _rows(row, index, sign, start, first, stop, rows, ROWS: tl.constexpr):
    """Rows, their first features and their signs, at some places from the start on."""
    place = first + tl.arange(0, ROWS)
    slot = start + place
    slot = tl.where(slot < rows, slot, slot - rows)
    there = place < stop
    return (
        there[:, None],
        tl.load(row + slot, mask=there, other=0).to(tl.int64),
        tl.load(index + slot, mask=there, other=0)[:, None],
        tl.load(sign + slot, mask=there, other=0.0),
    )


@triton.jit
@no_type_check
def gather_matrices(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and numbers, no objects
    matrices, row, index, sign, start, count, column_sign, partials, rows, columns, k, rows_each,
    FEATURES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write the sketches of some rows of matrices (batch x rows x columns) to partials (parts x batch x k)."""
    block, part, example = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    feature = block * FEATURES + tl.arange(0, FEATURES)
    stop = tl.minimum((part + 1) * rows_each, tl.load(count + block))
    first = tl.load(start + block)
    sums = tl.zeros((ROWS, FEATURES), matrices.dtype.element_ty)
    for begin in range(part * rows_each, stop, ROWS):
        there, own, place, factor = _rows(row, index, sign, first, begin, stop, rows, ROWS)
        source = matrices + ((example * rows + own) * columns)[:, None]
        column = feature[None, :] - place
        column = tl.where(column < 0, column + k, column)
        # Beyond k columns a row begins anew.
        for _ in range(0, columns, k):
            mask = there & (column < columns)
            value = tl.load(source + column, mask=mask, other=0.0)
            signs = tl.load(column_sign + column, mask=mask, other=0.0).to(sums.dtype)
            sums += factor.to(sums.dtype)[:, None] * signs * value
            column += k
    target = partials + (part.to(tl.int64) * tl.num_programs(2) + example) * k + feature
    tl.store(target, tl.sum(sums, axis=0), mask=feature < k)


@triton.jit
@no_type_check
def gather_products(  # noqa: PLR0913, PLR0917
    left, right, row, index, sign, start, count, column_sign, partials, rows, columns, k, rows_each,
    FEATURES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The same of the products left x right (batch x rows, batch x columns)."""
    block, part, example = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    feature = block * FEATURES + tl.arange(0, FEATURES)
    stop = tl.minimum((part + 1) * rows_each, tl.load(count + block))
    first = tl.load(start + block)
    sums = tl.zeros((ROWS, FEATURES), left.dtype.element_ty)
    for begin in range(part * rows_each, stop, ROWS):
        there, own, place, factor = _rows(row, index, sign, first, begin, stop, rows, ROWS)
        factor = factor.to(sums.dtype) * tl.load(left + example * rows + own)
        column = feature[None, :] - place
        column = tl.where(column < 0, column + k, column)
        for _ in range(0, columns, k):
            mask = there & (column < columns)
            value = tl.load(right + example * columns + column, mask=mask, other=0.0)
            sums += factor[:, None] * (tl.load(column_sign + column, mask=mask, other=0.0).to(sums.dtype) * value)
            column += k
    target = partials + (part.to(tl.int64) * tl.num_programs(2) + example) * k + feature
    tl.store(target, tl.sum(sums, axis=0), mask=feature < k)


def try_on(device: torch.device) -> None:
    """Compile a kernel and run it; raises what triton raises where it cannot."""
    one = torch.ones(1, device=device)
    ranges = RowRanges.of(one.int() * 0, one, 1, 1)
    scatter_products(one.new_zeros(1, 1), one[None], one[None], ranges, one)


def scatter_matrices(
    features: Float[Tensor, "batch k"],
    matrices: Float[Tensor, "batch rows columns"],
    ranges: RowRanges,
    column_sign: Float[Tensor, " columns"],
) -> None:
    """See `hashing.scatter_matrices`; on a CPU only under TRITON_INTERPRET=1."""
    _launch(gather_matrices, features, (matrices.contiguous(),), ranges, column_sign)


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    ranges: RowRanges,
    column_sign: Float[Tensor, " columns"],
) -> None:
    """See `hashing.scatter_products`; on a CPU only under TRITON_INTERPRET=1."""
    _launch(gather_products, features, (left.contiguous(), right.contiguous()), ranges, column_sign)


@no_type_check
def _launch(kernel, features: Tensor, sources: tuple[Tensor, ...], ranges: RowRanges, column_sign: Tensor) -> None:
    rows, columns, k = len(ranges.row), len(column_sign), features.shape[1]
    if features.numel() == 0 or rows * columns == 0:
        return
    hashes = (ranges.row, ranges.index, ranges.sign, ranges.start, ranges.count, column_sign)
    with torch.cuda.device_of(features):
        for first in range(0, len(features), EXAMPLES):
            own = features[first : first + EXAMPLES]
            partials = torch.empty(ranges.parts, *own.shape, dtype=own.dtype, device=own.device)
            kernel[(len(ranges.start), ranges.parts, len(own))](
                *(source[first : first + EXAMPLES] for source in sources), *hashes, partials,
                rows, columns, k, ROWS_EACH, FEATURES=FEATURES, ROWS=ROWS, num_warps=WARPS,
            )  # fmt: skip
            own += partials[0] if ranges.parts == 1 else partials.sum(dim=0)
