"""Brittleness: what becomes of a prediction without the examples that a method ranks highest.

A target's prediction *flips* where a model retrained without those examples predicts another label than the one that is
attributed. Random examples taken away show how much of it is the noise of retraining, and smaller data.
The idea is that of Ilyas et al. 2022, section 4.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from trakflow.errors import DataError
from trakflow.evaluation.lds import Interval
from trakflow.seeds import generator


def choose_targets(
    predicted: Int[np.ndarray, "models m"], labels: Int[np.ndarray, " m"], count: int, seed: int
) -> Int[np.ndarray, " targets"]:
    """Draw targets for which most models that were trained on everything predict the attributed label.

    Args:
        predicted: Labels that those models predict.
        labels: Attributed labels.
        count: How many targets; those of a smaller number are the beginning of those of a larger one.
        seed: Of the draw.

    Raises:
        DataError: There are fewer such targets.
    """
    right = (predicted == labels).mean(axis=0) > 0.5
    order = generator(seed, "removal targets").permutation(len(labels))
    chosen = order[right[order]]
    if len(chosen) < count:
        raise DataError(
            f"removal.targets={count}, but models trained on everything predict the attributed label of only "
            f"{len(chosen)} of {len(labels)} targets. Set removal.targets to at most that, or data.target_count higher."
        )
    return chosen[:count]


def masks_without_highest(
    scores: Float[np.ndarray, "n targets"], count: int, ties: list[int], seed: int
) -> Bool[np.ndarray, "targets n"]:
    """Return for each target the mask of all training examples but those `count` with the highest scores.

    Args:
        scores: Of one method.
        count: How many are left out.
        ties: The number of each target, by which equal scores are put into a random order.
        seed: Of that order.
    """
    masks = np.ones((len(ties), len(scores)), dtype=bool)
    for mask, own, number in zip(masks, np.asarray(scores).T, ties, strict=True):
        order = np.lexsort((generator(seed, "removal order", number).permutation(len(own)), -own))
        mask[order[:count]] = False
    return masks


def flip_rates(
    predicted: Int[np.ndarray, "models targets"], labels: Int[np.ndarray, " targets"]
) -> Float64[np.ndarray, " targets"]:
    """Return for each target the part of the models that predict another label than the attributed one."""
    return (predicted != labels).mean(axis=0)


def mean_interval(values: Float[np.ndarray, " targets"], resamples: int, confidence: float, seed: int) -> Interval:
    """Return the mean over targets with a percentile bootstrap interval; equal seeds resample alike."""
    rows = generator(seed, "bootstrap removal").integers(0, len(values), (resamples, len(values)))
    values = np.asarray(values, dtype=np.float64)
    return Interval.of(values.mean(), values[rows].mean(axis=1), confidence)
