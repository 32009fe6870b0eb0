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

# Additions that take longer than it takes to wake a thread.
WORK_PER_THREAD = 1 << 16

# Additions for which torch takes about as much longer as it takes to import numba and to load the kernels.
COMPILED_FROM = 1 << 27

HashArrays = tuple[Tensor, Tensor]


_additions = 0


def compiled_by_now(device: torch.device, additions: int) -> bool:
    """Whether this process has added so much that compiled kernels make up for being loaded; counts the additions.

    Many a job is over before that. Which way it is changes no bit.
    """
    global _additions  # noqa: PLW0603 (of the process, as the import is)
    if device.type != "cpu":
        return False
    _additions += additions
    return _additions >= COMPILED_FROM


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
    totals: Float[Tensor, "parts batch double"],
    cuts: Sequence[slice],
    matrices: Sequence[Float[Tensor, "rows columns"]],
    rows: HashArrays,
    column_sign: Float[Tensor, " columns"],
) -> None:
    """See `hashing.scatter_matrices`: add each cut of the rows to sums of its own."""
    row_arrays, sign, target = [array(part) for part in rows], array(column_sign), totals.numpy()
    calls = []
    for example, matrix in enumerate(matrices):
        source = array(matrix)
        for part, cut in enumerate(cuts):
            own = [hashes[cut] for hashes in row_arrays]
            calls.append((source[cut], *own, sign, target[part, example]))
    run_parallel(_kernels().scatter_matrix, calls)


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    rows: HashArrays,
    column_sign: Float[Tensor, " columns"],
) -> None:
    """See `hashing.scatter_products`."""
    sources, target = (array(left), array(right)), features.numpy()
    hashes = [array(part) for part in (*rows, column_sign)]
    slices = _row_slices(len(features), left.shape[1] * right.shape[1])
    calls = [(*(source[own] for source in sources), *hashes, target[own]) for own in slices]
    run_parallel(_kernels().scatter_products, calls)


def _row_slices(rows: int, additions: int) -> list[slice]:
    """Cut rows among torch's threads, if there is enough to add in each."""
    return slices(rows, least=-(-WORK_PER_THREAD // max(1, additions)))
