"""Choosing the ridge without ground truth: the self-LDS.

Checkpoints trained on random parts S_c of the data are themselves retrained subsets. For a ridge, the output
f(z; theta_c) of checkpoint c is predicted out of sample as the sum over S_c of the scores that the other checkpoints
give; the self-LDS is the rank correlation of prediction and output over the checkpoints, averaged over targets.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from trakflow.features import FeatureSet
from trakflow.kernel import BilinearCurve
from trakflow.progress import progress
from trakflow.ranks import rank_correlations
from trakflow.scoring import CheckpointParts


def self_lds_by_target(
    checkpoints: Sequence[Callable[[], CheckpointParts]],
    masks: Bool[np.ndarray, "c n"],
    loss_gradients: Float32[np.ndarray, "c n"],
    outputs: Float32[np.ndarray, "c m"],
    relative_ridges: Sequence[float],
) -> Float64[np.ndarray, "ridges m"]:
    """Return each target's part of the self-LDS at each ridge.

    Args:
        checkpoints: One loader a checkpoint, each called once; at least two.
        masks: Examples that each checkpoint was trained on.
        loss_gradients: Q by each checkpoint.
        outputs: f(z; theta_c) at the targets.
        relative_ridges: Candidates, in units of the mean diagonal of each checkpoint's Gram matrix.

    Returns:
        Rank correlations in [-1, 1]; the self-LDS is their mean over targets.
    """
    count, targets = outputs.shape
    predictions = np.zeros((len(relative_ridges), count, targets))
    # Row c: Q averaged over the checkpoints other than c, on S_c and zero elsewhere.
    others = (loss_gradients.sum(axis=0, dtype=np.float64) - loss_gradients) / (count - 1)
    sums = torch.from_numpy(np.where(masks, others, 0.0)).T
    for own, load in enumerate(progress(checkpoints, "self-LDS")):
        parts = load()
        left = _weighted_sums(parts.features, sums)
        left[:, own] = 0
        curve = BilinearCurve.of(parts.kernel, left, parts.target_features.double().T, parts.features.rows)
        for number, ridge in enumerate(relative_ridges):
            predictions[number] += curve.at(parts.kernel.ridge(ridge, "relative")).numpy() / (count - 1)
    return np.stack([rank_correlations(prediction, outputs) for prediction in predictions])


def _weighted_sums(features: FeatureSet, sums: Float64[Tensor, "n c"]) -> Float64[Tensor, "k c"]:
    """Phi^T times the columns, streamed."""
    total = torch.zeros(features.k, sums.shape[1], dtype=torch.float64)
    for start, rows, _ in features.rows():
        total.addmm_(rows.double().T, sums[start : start + len(rows)])
    return total
