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

HashArrays = tuple[Tensor, Tensor]


@functools.cache
def _kernels() -> Any:
    # numba takes a third of a second to import; only jobs that sketch by scattering should pay.
    from trakflow.sketches import scatter_kernels

    return scatter_kernels


def array(tensor: Tensor) -> np.ndarray:
    """View a CPU tensor as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def count_sketch(
    values: Float[Tensor, "rows size"], index: Int[Tensor, " size"], sign: Float[Tensor, " size"], k: int
) -> Float[Tensor, "rows k"]:
    """See `hashing.count_sketch`."""
    features = torch.zeros(len(values), k, dtype=values.dtype)
    source, target, hashes = array(values), features.numpy(), (array(index), array(sign))
    run_parallel(
        _kernels().count_sketch, [(source[rows], *hashes, target[rows]) for rows in slices(len(values), least=8)]
    )
    return features


def scatter_matrices(
    features: Float[Tensor, "batch k"],
    matrices: Sequence[Float[Tensor, "rows columns"]],
    rows: HashArrays,
    columns: HashArrays,
) -> None:
    """See `hashing.scatter_matrices`."""
    k = features.shape[1]
    row_arrays, column_arrays = [array(part) for part in rows], [array(part) for part in columns]
    parts = PARTS if len(row_arrays[0]) * len(column_arrays[0]) >= LARGE else 1
    bounds = [len(row_arrays[0]) * part // parts for part in range(parts + 1)]
    # Twice k long: sums of two indices need no remainder until the end.
    totals = torch.zeros(len(matrices), parts, 2 * k, dtype=features.dtype)
    target = totals.numpy()
    calls = []
    for example, matrix in enumerate(matrices):
        source = array(matrix)
        for part in range(parts):
            chosen = slice(bounds[part], bounds[part + 1])
            own = [hashes[chosen] for hashes in row_arrays]
            calls.append((source[chosen], *own, *column_arrays, target[example, part]))
    run_parallel(_kernels().scatter_matrix, calls)
    summed = totals.sum(dim=1)
    features += summed[:, :k] + summed[:, k:]


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    rows: HashArrays,
    columns: HashArrays,
) -> None:
    """See `hashing.scatter_products`."""
    k = features.shape[1]
    totals = torch.zeros(len(features), 2 * k, dtype=features.dtype)
    target, sources = totals.numpy(), (array(left), array(right))
    hashes = [array(part) for part in (*rows, *columns)]
    run_parallel(
        _kernels().scatter_products,
        [(*(source[own] for source in sources), *hashes, target[own]) for own in slices(len(features))],
    )
    features += totals[:, :k] + totals[:, k:]
