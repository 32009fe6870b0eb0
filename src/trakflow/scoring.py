"""Scores: mean(Q) times mean(Phi (Phi^T W Phi + ridge I)^-1 phi(z)), streamed over rows (paper, equation 17)."""

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


def score_blocks(
    checkpoints: Sequence[Loader], n: int, m: int, memory_bytes: int
) -> Iterator[tuple[int, Float32[np.ndarray, "n columns"]]]:
    """Yield ``(first target, scores of a block of targets)``.

    Args:
        checkpoints: One loader a checkpoint, called once a block.
        n: Number of training examples.
        m: Number of targets.
        memory_bytes: Bound on a block of scores; the features are streamed.

    Yields:
        Scores (n x columns, float32) on their absolute scale; positive means that the example raises the output.

    Raises:
        NumericalError: A checkpoint's system has no unique solution.
    """
    columns = max(1, min(m, memory_bytes // (4 * n)))
    for first in range(0, m, columns):
        last = min(first + columns, m)
        kernel_mean = torch.zeros(n, last - first)
        gradient_mean = np.zeros(n, dtype=np.float64)
        for load in progress(checkpoints, "score"):
            parts = load()
            _add_kernel_products(kernel_mean, parts, slice(first, last), 1 / len(checkpoints))
            gradient_mean += parts.features.loss_gradients() / len(checkpoints)
        yield first, (torch.from_numpy(gradient_mean.astype(np.float32))[:, None] * kernel_mean).numpy()


def _add_kernel_products(total: Tensor, parts: CheckpointParts, targets: slice, share: float) -> None:
    columns = parts.target_features[targets].double().T
    solved = (parts.kernel.solve(columns, parts.ridge, parts.features.rows) * share).float()
    for start, features, _ in parts.features.rows():
        total[start : start + len(features)].addmm_(features, solved)
