"""The linear datamodeling score (paper, section 2.3), its bootstrap interval and its noise ceiling."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Float64

from trakflow.errors import DataError
from trakflow.progress import progress
from trakflow.ranks import rank_correlations
from trakflow.seeds import generator


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: Float[np.ndarray, " resamples"], confidence: float) -> "Interval":
        """Return an estimate with the percentile interval of its resampled values."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail])
        return cls(float(value), float(low), float(high))


def predicted_outputs(
    scores: Float[np.ndarray, "n m"], masks: Bool[np.ndarray, "subsets n"]
) -> Float64[np.ndarray, "subsets m"]:
    """Sum the scores of the examples in each subset: the additive prediction of each output, up to a constant."""
    return masks.astype(np.float64) @ scores.astype(np.float64)


def lds(predicted: Float[np.ndarray, "subsets m"], actual: Float[np.ndarray, "subsets m"]) -> float:
    """Return the LDS: the rank correlation of predicted and actual outputs over subsets, averaged over targets."""
    return float(rank_correlations(predicted, actual).mean())


def lds_interval(
    predicted: Float[np.ndarray, "subsets m"],
    actual: Float[np.ndarray, "subsets m"],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Return the LDS with a percentile bootstrap interval over targets and subsets, both resampled at once.

    Args:
        predicted: Sums of scores.
        actual: Outputs of the retrained models, averaged over retrains.
        resamples: Number of bootstrap resamples.
        confidence: For example 0.95.
        seed: Of the resampling; equal seeds resample alike, so that methods can be compared.
    """
    random = generator(seed, "bootstrap")
    subsets, targets = predicted.shape
    values = np.empty(resamples)
    for number in progress(range(resamples), "bootstrap"):
        rows = random.integers(0, subsets, subsets)
        columns = random.integers(0, targets, targets)
        # Each target's correlation is computed once, however often it was drawn.
        drawn, times = np.unique(columns, return_counts=True)
        correlations = rank_correlations(predicted[np.ix_(rows, drawn)], actual[np.ix_(rows, drawn)])
        values[number] = np.average(correlations, weights=times)
    return Interval.of(lds(predicted, actual), values, confidence)


def noise_ceiling(outputs: Float[np.ndarray, "retrains subsets m"]) -> float:
    """Return the largest LDS that a perfect attribution could expect, given the noise of retraining.

    The square root of the reliability of the mean over R retrains: Spearman-Brown on the mean pairwise correlation r,
    R r / (1 + (R - 1) r).

    Returns:
        The ceiling, or NaN with a single retrain, which says nothing about its noise. 0 where r is not positive.
    """
    retrains = len(outputs)
    if retrains < 2:
        return float("nan")
    pairs = [rank_correlations(outputs[a], outputs[b]).mean() for a, b in combinations(range(retrains), 2)]
    correlation = max(float(np.mean(pairs)), 0.0)
    return float(np.sqrt(retrains * correlation / (1 + (retrains - 1) * correlation)))


def check_evaluation(masks: np.ndarray, outputs: np.ndarray, n: int, m: int) -> None:
    """Refuse masks or outputs that do not belong to this experiment.

    Args:
        masks: Should be subsets x n, boolean or 0/1.
        outputs: Should be retrains x subsets x m.
        n: Number of training examples.
        m: Number of targets.

    Raises:
        DataError: A shape or a value does not fit.
    """
    if masks.ndim != 2 or masks.shape[1] != n:
        raise DataError(
            f"Subset masks have shape {masks.shape}; expected (subsets, {n}), one column a training example."
        )
    if masks.dtype.kind not in "biuf" or not np.isin(masks, (0, 1)).all():
        raise DataError("Subset masks hold values other than 0 and 1.")
    if outputs.ndim != 3 or outputs.shape[1:] != (masks.shape[0], m):
        raise DataError(
            f"Retrained outputs have shape {outputs.shape}; expected (retrains, {masks.shape[0]} subsets, {m} targets)."
        )
    if outputs.dtype.kind not in "fiu":
        raise DataError(f"Retrained outputs are no real numbers, but {outputs.dtype}.")
    if not (np.abs(outputs) <= np.finfo(np.float32).max).all():
        raise DataError(
            "Retrained outputs hold NaN or Inf, or numbers too large for float32; leave those subsets out of masks and "
            "outputs."
        )
    if masks.shape[0] < 3:
        raise DataError(f"A rank correlation needs at least 3 subsets, and there are {masks.shape[0]}.")
