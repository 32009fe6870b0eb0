"""Kernels compiled by numba, on numpy views of CPU tensors.

Callers may be concurrent or forked. Compiled code is kept beside this file, or in the user's cache folder where that is
read-only, so that the next process need not compile.
"""

import itertools
from collections.abc import Iterator
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, UInt32
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from trakflow.sketches.jit import compiled
from trakflow.sketches.threads import pool

# Rows that are handled at once, and entries: one vector register of float32 is eight of them.
BLOCK = 8
# Entries of eight rows that stay in the L2 cache while every nonzero reads them.
TILE = 4096
# Below this many additions for each feature, moving features to and from the block's layout costs more than it saves.
BLOCKED_FROM = 8
# Additions that take half a millisecond: some times what starting a thread takes.
WORK_PER_THREAD = 1 << 21

LANES = ir.IntType(32)
ADDRESS = ir.IntType(64)


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose a square of vectors: interleaving the first half of the rows with the second, log2 times over."""
    size = len(rows)
    half = size // 2
    masks = [
        ir.Constant(ir.VectorType(LANES, size), [lane for entry in part for lane in (entry, size + entry)])
        for part in (range(half), range(half, size))
    ]
    for _ in range(half.bit_length()):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [builder.shuffle_vector(first, second, mask) for first, second in pairs for mask in masks]
    return rows


@no_type_check  # what numba compiles must stay a plain function while tests check types
def _add_square_code(context, builder, signature, arguments):
    """Emit LLVM code of `_add_square`: numba turns no loop over rows into vector instructions by itself."""
    sums_type, gradients_type, _, codes_type, _, scale_type = signature.args
    sums, gradients, row, codes, entry, scale = arguments
    real = context.get_value_type(scale_type)
    width = scale_type.bitwidth
    vector, words, lanes = (ir.VectorType(kind, BLOCK) for kind in (real, ir.IntType(width), LANES))

    def pointer(array_type, array, offset, kind):
        data = context.make_array(array_type)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())

    code = builder.load(pointer(codes_type, codes, entry, lanes), align=4)
    sign = code if width == LANES.width else builder.zext(code, words)
    sign = builder.shl(sign, ir.Constant(words, [width - 1] * BLOCK))
    scales = builder.insert_element(ir.Constant(vector, ir.Undefined), scale, LANES(0))
    scales = builder.shuffle_vector(scales, scales, ir.Constant(lanes, [0] * BLOCK))
    scales = builder.bitcast(builder.xor(builder.bitcast(scales, words), sign), vector)

    stride = builder.extract_value(context.make_array(gradients_type)(context, builder, gradients).shape, 1)
    signed = []
    for other in range(BLOCK):
        offset = builder.add(builder.mul(builder.add(row, ADDRESS(other)), stride), entry)
        loaded = builder.load(pointer(gradients_type, gradients, offset, vector), align=width // 8)
        signed.append(builder.fmul(loaded, scales))

    features = builder.lshr(code, ir.Constant(lanes, [1] * BLOCK))
    for position, column in enumerate(_transposed(builder, signed)):
        feature = builder.zext(builder.extract_element(features, LANES(position)), ADDRESS)
        place = pointer(sums_type, sums, builder.mul(feature, ADDRESS(BLOCK)), vector)
        builder.store(builder.fadd(builder.load(place, align=width // 8), column), place, align=width // 8)
    return context.get_dummy_value()


@intrinsic
@no_type_check
def _add_square(typing_context, sums, gradients, row, codes, entry, scale):
    """Add BLOCK entries of BLOCK rows to `sums` (feature, row), all in C order; entries in their order."""
    return types.void(sums, gradients, row, codes, entry, scale), _add_square_code


@compiled
@no_type_check
def _add_blocks(features, gradients, codes, scale, start, stop):
    nonzeros, size = codes.shape
    k = features.shape[1]
    tile = size if nonzeros == 1 else TILE
    sums = np.empty((k, BLOCK), features.dtype)
    for row in range(start, stop, BLOCK):
        for other in range(BLOCK):
            for feature in range(k):
                sums[feature, other] = features[row + other, feature]
        for low in range(0, size, tile):
            high = min(low + tile, size)
            squares = low + (high - low) // BLOCK * BLOCK
            for nonzero in range(nonzeros):
                for entry in range(low, squares, BLOCK):
                    _add_square(sums, gradients, row, codes[nonzero], entry, scale)
                for entry in range(squares, high):
                    code = codes[nonzero, entry]
                    signed = -scale if code & np.uint32(1) else scale
                    for other in range(BLOCK):
                        sums[code >> np.uint32(1), other] += signed * gradients[row + other, entry]
        for other in range(BLOCK):
            for feature in range(k):
                features[row + other, feature] = sums[feature, other]


@compiled
@no_type_check
def _add_rows(features, gradients, codes, scale, start, stop):
    nonzeros, size = codes.shape
    for row in range(start, stop):
        for nonzero in range(nonzeros):
            for entry in range(size):
                code = codes[nonzero, entry]
                signed = -scale if code & np.uint32(1) else scale
                features[row, code >> np.uint32(1)] += signed * gradients[row, entry]


def _slices(rows: int, parts: int) -> Iterator[tuple[int, int]]:
    blocks = -(-rows // BLOCK)
    edges = [min(rows, BLOCK * (blocks * part // parts)) for part in range(parts + 1)]
    return itertools.pairwise(edges)


def add_signed(
    features: Float[np.ndarray, "batch k"],
    gradients: Float[np.ndarray, "batch size"],
    codes: UInt32[np.ndarray, "nonzeros size"],
    scale: float,
    threads: int,
) -> None:
    """Add every gradient entry, scaled and signed, to the features that its codes name, in place.

    An entry's additions to one feature are made in the order of the entries, so that the sums of a row are the same to
    the last bit in any batch and with any number of threads.

    Args:
        features: The sums, float32 or float64, in C order.
        gradients: A row an example, of the same type, in C order.
        codes: Twice the feature, plus 1 where the sign is negative. In each row all features are those of one block of
            their own, or there is one row.
        scale: Multiplies every entry.
        threads: How many to use at most.

    Raises:
        ValueError: Shapes, types or memory layouts do not fit, which the kernels would not notice.
    """
    _check(features, gradients, codes)
    rows = len(features)
    blocked = codes.size >= BLOCKED_FROM * features.shape[1]

    def add(start: int, stop: int) -> None:
        middle = start + (stop - start) // BLOCK * BLOCK if blocked else start
        typed: Any = features.dtype.type(scale)
        _add_blocks(features, gradients, codes, typed, start, middle)
        _add_rows(features, gradients, codes, typed, middle, stop)

    parts = max(1, min(threads, -(-rows // BLOCK), rows * codes.size // WORK_PER_THREAD))
    own, *others = _slices(rows, parts)
    waiting = [pool().submit(add, *part) for part in others]
    add(*own)
    for part in waiting:
        part.result()


def _check(features: np.ndarray, gradients: np.ndarray, codes: np.ndarray) -> None:
    arrays = {"features": features, "gradients": gradients, "codes": codes}
    for name, array in arrays.items():
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be in C order: call `contiguous()` on the tensor first.")
    if features.dtype != gradients.dtype or features.dtype not in (np.float32, np.float64) or codes.dtype != np.uint32:
        found = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise ValueError(f"Features and gradients must both be float32 or float64, and codes uint32; found {found}.")
    if gradients.shape != (len(features), codes.shape[1]):
        raise ValueError(
            f"Gradients of shape {gradients.shape} do not fit {len(features)} rows of features and codes of "
            f"{codes.shape[1]} entries."
        )
