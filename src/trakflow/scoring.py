"""Scores: mean(Q) times mean(Phi (Phi^T W Phi + ridge I)^-1 phi(z)), streamed over rows (paper, equation 17).

What is held: (Phi^T W Phi + ridge I)^-1 phi(z) of every checkpoint for a block of targets (k x columns each), one block
of scores (rows x columns), and of one checkpoint at a time its kernel or a block of its features. Where there are too
many targets to hold at once, the features are read once for each block of them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trakflow.features import FeatureSet
from trakflow.kernel import Kernel
from trakflow.progress import progress


@dataclass(frozen=True)
class CheckpointParts:
    """What scoring reads of one checkpoint."""

    features: FeatureSet
    kernel: Kernel
    target_features: Float[Tensor, "m k"]
    ridge: float


# A function rather than the parts themselves, so that only one checkpoint is in memory at a time.
Loader = Callable[[], CheckpointParts]


@dataclass(frozen=True)
class Solved:
    """What is kept of a checkpoint while rows are scored: where its features are, and what to multiply them with."""

    features: FeatureSet
    columns: Float32[Tensor, "k columns"]


def score_blocks(
    checkpoints: Sequence[Loader], n: int, m: int, k: int, memory_bytes: int
) -> Iterator[tuple[int, int, Float32[np.ndarray, "rows columns"]]]:
    """Yield ``(first row, first target, scores)`` block by block: for each block of targets, rows in ascending order.

    Args:
        checkpoints: One loader a checkpoint, called once a block of targets.
        n: Number of training examples.
        m: Number of targets.
        k: Number of features.
        memory_bytes: Bound on the block of scores, and again on what is held of all checkpoints for its targets.

    Yields:
        Scores (float32) on their absolute scale; positive means that the example raises the output. The block's memory
        is used again for the next one: copy what is to be kept.

    Raises:
        NumericalError: A checkpoint's system has no unique solution.
        StoreError: A block of features is not what was written; no block that it would enter has been yielded.
    """
    columns = _columns(len(checkpoints), m, k, memory_bytes)
    for first in range(0, m, columns):
        targets = slice(first, min(first + columns, m))
        solved = [_solve(load, targets, 1 / len(checkpoints)) for load in progress(checkpoints, "solve")]
        for row, scores in _score_rows(solved, n, memory_bytes):
            yield row, first, scores


def _columns(checkpoints: int, m: int, k: int, memory_bytes: int) -> int:
    # Each checkpoint leaves float32; the one that is solved needs about three such arrays in float64.
    return max(1, min(m, memory_bytes // (4 * k * (checkpoints + 6))))


def _solve(load: Loader, targets: slice, share: float) -> Solved:
    parts = load()
    columns = parts.target_features[targets].double().T
    solved = parts.kernel.solve(columns, parts.ridge, parts.features.rows)
    return Solved(parts.features, solved.mul_(share).float())


def _score_rows(
    solved: Sequence[Solved], n: int, memory_bytes: int
) -> Iterator[tuple[int, Float32[np.ndarray, "rows columns"]]]:
    columns = solved[0].columns.shape[1]
    ranges = list(_row_ranges(n, max(1, memory_bytes // (4 * columns)), solved[0].features.starts))
    memory = torch.empty(max(last - first for first, last in ranges), columns)
    for first, last in progress(ranges, "score"):
        scores = memory[: last - first].zero_()
        gradients = np.zeros(last - first, dtype=np.float64)
        for checkpoint in solved:
            for start, features in checkpoint.features.phi(first, last):
                scores[start - first : start - first + len(features)].addmm_(features, checkpoint.columns)
            gradients += checkpoint.features.loss_gradients(first, last) / len(solved)
        yield first, scores.mul_(torch.from_numpy(gradients).float()[:, None]).numpy()


def _row_ranges(n: int, most: int, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut n rows into ranges of at most `most`, where blocks on disk begin if that can be."""
    first = 0
    while first < n:
        last = min(first + most, n)
        if last < n and (start := starts[bisect_right(starts, last) - 1]) > first:
            last = start
        yield first, last
        first = last
