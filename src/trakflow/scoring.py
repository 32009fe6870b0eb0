"""Scores: mean(Q) times mean(Phi (Phi^T W Phi + ridge I)^-1 phi(z)), streamed over rows (paper, equation 17).

What is held: (Phi^T W Phi + ridge I)^-1 phi(z) of every checkpoint for a block of targets (k x columns each), two
blocks of scores (rows x columns), and of one checkpoint at a time its kernel, or in each thread one block of its
features, its product and all target features. Where there are too many targets to hold at once, the features are read
once for each block of them; and twice more to solve where the n x n side was factored. All is float32 but for solving,
and where products would cancel: then columns take twice the memory.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from trakflow.features import FeatureSet
from trakflow.kernel import Kernel
from trakflow.progress import progress

# Larger blocks of scores would gain nothing: they leave the processor's cache before they are looked at.
SCORES_BYTES = 1 << 25
# Where products with solved columns cancel by more than this they are made in float64: what float32 loses of a score is
# about 1e-7 times that.
MOST_CANCELLATION = 1e3
# The libraries of CPUs multiply rows by so few columns faster from the left: 10 columns in a third of the time, 100 in
# .94 of it, 300 in as much (k = 2,048, AVX-512).
FEW = 128


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
    """What is kept of a checkpoint while rows are scored: where its features are, and what to multiply them with.

    Columns are float64 where float32 would not do: with k > n and a small ridge they are nearly orthogonal to all rows.
    """

    features: FeatureSet
    columns: Float32[Tensor, "k columns"] | Float64[Tensor, "k columns"]


def score_blocks(
    checkpoints: Sequence[Loader], n: int, m: int, k: int, memory_bytes: int, most_columns: int | None = None
) -> Iterator[tuple[int, int, Float32[np.ndarray, "rows columns"]]]:
    """Yield ``(first row, first target, scores)`` block by block: for each block of targets, rows in ascending order.

    Args:
        checkpoints: One loader a checkpoint, called once a block of targets.
        n: Number of training examples.
        m: Number of targets.
        k: Number of features.
        memory_bytes: Bound on two blocks of scores, and again on what is held of all checkpoints for its targets.
        most_columns: Bound on the targets of a block, for one who holds something of each; None for no other.

    Yields:
        Scores (float32) on their absolute scale; positive means that the example raises the output. The block's memory
        is used again for the next one: copy what is to be kept.

    Raises:
        NumericalError: A checkpoint's system has no unique solution.
        StoreError: A block of features is not what was written; no block that it would enter has been yielded.
    """
    columns = min(_columns(len(checkpoints), m, k, memory_bytes), m if most_columns is None else most_columns)
    for first in range(0, m, columns):
        # By a generator of its own, which lets go of what it holds before the next targets are begun.
        yield from _score_targets(checkpoints, slice(first, min(first + columns, m)), n, memory_bytes)


def _score_targets(
    checkpoints: Sequence[Loader], targets: slice, n: int, memory_bytes: int
) -> Iterator[tuple[int, int, Float32[np.ndarray, "rows columns"]]]:
    solved = [_solve(load, targets, 1 / len(checkpoints)) for load in progress(checkpoints, "solve")]
    for row, scores in _score_rows(solved, n, memory_bytes):
        yield row, targets.start, scores


def _columns(checkpoints: int, m: int, k: int, memory_bytes: int) -> int:
    # Each checkpoint leaves float32; the one that is solved needs about three such arrays in float64.
    return max(1, min(m, memory_bytes // (4 * k * (checkpoints + 6))))


def _solve(load: Loader, targets: slice, share: float) -> Solved:
    parts = load()
    columns = parts.target_features[targets].double().T
    solved, cancellation = parts.kernel.solve(columns, parts.ridge, parts.features.rows)
    solved.mul_(share)
    if cancellation > MOST_CANCELLATION:
        return Solved(parts.features, solved)
    return Solved(parts.features, solved.float().T.contiguous().T if solved.shape[1] <= FEW else solved.float())


def _score_rows(
    solved: Sequence[Solved], n: int, memory_bytes: int
) -> Iterator[tuple[int, Float32[np.ndarray, "rows columns"]]]:
    columns = solved[0].columns.shape[1]
    most = max(1, min(memory_bytes // 2, SCORES_BYTES) // (4 * columns))
    ranges = list(_row_ranges(n, most, solved[0].features.starts))
    memory = torch.empty(2, max(last - first for first, last in ranges), columns)
    with _workers() as (pool, count):

        def begin(number: int) -> list[Future[None]]:
            first, last = ranges[number]
            scores = memory[number % 2, : last - first]
            edges = [part * len(scores) // count for part in range(count + 1)]
            return [pool.submit(_fill, scores[start:stop], solved, first + start) for start, stop in pairwise(edges)]

        # The next block is begun before this one is done, so that no thread waits at the end of one, and made while
        # the caller looks at this one; its memory is that of the last one, which the caller has seen.
        parts = begin(0)
        for number, (first, last) in enumerate(progress(ranges, "score")):
            following = begin(number + 1) if number + 1 < len(ranges) else []
            for part in parts:
                part.result()
            yield first, memory[number % 2, : last - first].numpy()
            parts = following


@contextlib.contextmanager
def _workers() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Yield threads that each compute alone, as many as torch would use for one product.

    Reading, verifying and converting so run beside products and not between them, no product waits for the slowest
    thread, and the number of threads changes scores by rounding at most.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            try:
                yield pool, count
            finally:
                # Where something failed, what has not begun is of no use.
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(count)


def _fill(scores: Tensor, solved: Sequence[Solved], first: int) -> None:
    """Compute the scores of some rows, of which the first is given, in place."""
    last = first + len(scores)
    scores.zero_()
    gradients = np.zeros(len(scores), dtype=np.float64)
    for checkpoint in solved:
        for start, features in checkpoint.features.phi(first, last):
            rows = scores[start - first : start - first + len(features)]
            if checkpoint.columns.dtype == torch.float64:
                rows += (features.double() @ checkpoint.columns).float()
            elif rows.shape[1] <= FEW:
                rows += (checkpoint.columns.T @ features.T).T
            else:
                rows.addmm_(features, checkpoint.columns)
        gradients += checkpoint.features.loss_gradients(first, last) / len(solved)
    scores.mul_(torch.from_numpy(gradients).float()[:, None])


def _row_ranges(n: int, most: int, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut n rows into ranges of at most `most`, where blocks on disk begin if that can be."""
    first = 0
    while first < n:
        last = min(first + most, n)
        if last < n and (start := starts[bisect_right(starts, last) - 1]) > first:
            last = start
        yield first, last
        first = last
