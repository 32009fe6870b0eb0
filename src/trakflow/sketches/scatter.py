"""Scatter on a CPU: the compiled kernels, run on several threads.

Each thread owns the features it adds to, so the order of additions, and
with it every bit, depends on neither the number of threads nor the rest of the batch.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trakflow.sketches.threads import run_parallel, slices

# A large matrix is cut into this many groups of rows with accumulators of their own, whatever the number of threads.
PARTS = 4
LARGE = 1 << 16
# Additions that take longer than it takes to wake a thread.
WORK_PER_THREAD = 1 << 16

HashArrays = tuple[Tensor, Tensor]


@functools.cache
def _kernels() -> Any:
    # numba takes a third of a second to import; only jobs that sketch by scattering should pay.
    from trakflow.sketches import scatter_kernels

    return scatter_kernels


def array(tensor: Tensor) -> np.ndarray:
    """View a CPU tensor as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def add_count_sketch(
    features: Float[Tensor, "rows k"],
    values: Float[Tensor, "rows size"],
    index: Int[Tensor, " size"],
    sign: Float[Tensor, " size"],
) -> None:
    """See `hashing.add_count_sketch`."""
    source, target, hashes = array(values), features.numpy(), (array(index), array(sign))
    calls = [(source[rows], *hashes, target[rows]) for rows in _row_slices(len(values), values.shape[1])]
    run_parallel(_kernels().add_count_sketch, calls)


def scatter_matrices(
    features: Float[Tensor, "batch k"],
    matrices: Sequence[Float[Tensor, "rows columns"]],
    rows: HashArrays,
    columns: HashArrays,
) -> None:
    """See `hashing.scatter_matrices`."""
    row_arrays, column_arrays = [array(part) for part in rows], [array(part) for part in columns]
    parts = PARTS if len(row_arrays[0]) * len(column_arrays[0]) >= LARGE else 1
    bounds = [len(row_arrays[0]) * part // parts for part in range(parts + 1)]
    # Twice k long: a sum of two indices needs no remainder until the end.
    k = features.shape[1]
    totals = torch.zeros(parts, len(matrices), 2 * k, dtype=features.dtype)
    target = totals.numpy()
    calls = []
    for example, matrix in enumerate(matrices):
        source = array(matrix)
        for part in range(parts):
            chosen = slice(bounds[part], bounds[part + 1])
            own = [hashes[chosen] for hashes in row_arrays]
            calls.append((source[chosen], *own, *column_arrays, target[part, example]))
    run_parallel(_kernels().scatter_matrix, calls)
    for total in totals:
        features += total[:, :k]
        features += total[:, k:]


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    rows: HashArrays,
    columns: HashArrays,
) -> None:
    """See `hashing.scatter_products`."""
    sources, target = (array(left), array(right)), features.numpy()
    hashes = [array(part) for part in (*rows, *columns)]
    slices = _row_slices(len(features), left.shape[1] * right.shape[1])
    calls = [(*(source[own] for source in sources), *hashes, target[own]) for own in slices]
    run_parallel(_kernels().scatter_products, calls)


def _row_slices(rows: int, additions: int) -> list[slice]:
    """Cut rows among torch's threads, if there is enough to add in each."""
    return slices(rows, least=-(-WORK_PER_THREAD // max(1, additions)))
