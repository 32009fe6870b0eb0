"""Choosing the ridge without ground truth: the self-LDS.

Checkpoints trained on random parts S_c of the data are themselves retrained subsets. For a ridge, the output
f(z; theta_c) of checkpoint c is predicted out of sample as the sum over S_c of the scores that the other checkpoints
give, less what a part of that size has of their sum over all examples; the self-LDS is the rank correlation of
prediction and output over the checkpoints, averaged over targets. A checkpoint that was trained on the same part, as
another epoch of the same run, is not asked: it has seen the answer.

The LDS has no need of what is taken away, which for one array of scores is the same for all subsets of a size. Here the
scores differ with c. A model whose gradient at a target is large gives it large scores, and often a high or low output
as well; the sum of the others' scores is smaller the larger its own is, so that predictions would go against outputs
whatever the training examples say, by more the fewer checkpoints there are and the larger the ridge is.
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

# What ten times the mean diagonal, or a tenth of it, must have over it in self-LDS, for one part. On the data sets of
# docs/results.md it spoils no choice of five or ten checkpoints, and mends the worst of three.
PREFERENCE = 0.05


def chosen_ridge(self_lds: Float64[np.ndarray, " ridges"], ridges: Float64[np.ndarray, " ridges"], parts: int) -> int:
    """Return which ridge to take: the one of the highest self-LDS, but for a preference for one near 1.

    The self-LDS of few parts is noisy, by the same noise for all targets. So what the ridge is expected to be, the mean
    diagonal, counts as well: PREFERENCE log10(ridge)^2 / parts is taken from the self-LDS.

    Args:
        self_lds: At each ridge.
        ridges: In units of the mean diagonal, ascending.
        parts: How many different parts of the data the checkpoints were trained on.
    """
    preferred = self_lds - PREFERENCE * np.log10(ridges) ** 2 / parts
    # Of equals the largest: a ridge too large costs less than one too small.
    return len(preferred) - 1 - int(np.argmax(preferred[::-1]))


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
        masks: Examples that each checkpoint was trained on; no row may be that of all checkpoints.
        loss_gradients: Q by each checkpoint.
        outputs: f(z; theta_c) at the targets.
        relative_ridges: Candidates, in units of the mean diagonal of each checkpoint's Gram matrix.

    Returns:
        Rank correlations in [-1, 1]; the self-LDS is their mean over targets.
    """
    predictions = np.zeros((len(relative_ridges), *outputs.shape))
    # The first checkpoint that was trained on the same part, of each.
    _, first, part = np.unique(masks, axis=0, return_index=True, return_inverse=True)
    same = first[part]
    asked = same[:, None] != same
    # Entry i, j: the share of checkpoint i in the prediction of j.
    shares = asked / asked.sum(axis=0)

    fractions = masks.mean(axis=1, keepdims=True)

    def sums(rows: slice) -> Float64[Tensor, "rows c"]:
        # Column c: Q averaged over the checkpoints that are asked about c; on S_c, less the fraction of it everywhere.
        means = shares.T @ loss_gradients[:, rows].astype(np.float64)
        return torch.from_numpy((masks[:, rows] - fractions) * means).T

    for load, share in zip(progress(checkpoints, "self-LDS"), shares, strict=True):
        predictions += _predictions(load(), share, sums, outputs.shape[1], relative_ridges)
    # Predictions of the same part are the same, whatever rounding says; ranks would tell them apart.
    return np.stack([rank_correlations(prediction[same], outputs) for prediction in predictions])


# A function of its own, so that nothing of one checkpoint is left when the next is loaded.
def _predictions(
    parts: CheckpointParts,
    share: Float64[np.ndarray, " c"],
    sums: Callable[[slice], Tensor],
    targets: int,
    relative_ridges: Sequence[float],
) -> Float64[np.ndarray, "ridges c m"]:
    """What one checkpoint adds to the predictions of the others, at each ridge."""
    left = _weighted_sums(parts.features, sums, len(share)).mul_(torch.from_numpy(share))
    curve = BilinearCurve.of(parts.kernel, left, parts.target_features.double().T, parts.features.rows)
    found = np.empty((len(relative_ridges), len(share), targets))
    for number, ridge in enumerate(relative_ridges):
        found[number] = curve.at(parts.kernel.ridge(ridge, "relative")).numpy()
    return found


def _weighted_sums(features: FeatureSet, sums: Callable[[slice], Tensor], count: int) -> Float64[Tensor, "k c"]:
    """Phi^T times `count` columns that are given for a slice of rows at a time, streamed."""
    total = torch.zeros(features.k, count, dtype=torch.float64)
    for start, rows in features.phi():
        total.addmm_(rows.double().T, sums(slice(start, start + len(rows))))
    return total
