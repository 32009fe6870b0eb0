"""Finding wrong labels: examples with the highest self-influence are looked at first (Koh & Liang 2017, section 5.4).

The self-influence of an example is its score on itself: how much training with it raises the output of the label that
it was given. It is high where nothing else speaks for that label. Precision and recall are scikit-learn's.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from trakflow.errors import DataError
from trakflow.evaluation.lds import Interval
from trakflow.progress import progress
from trakflow.seeds import generator

# Relative spread of a diagonal below which it is the rounding of one value, such as the 1 of every cosine with itself.
ROUNDING = 1e-5


def self_influence(scores: Float[np.ndarray, "n m"]) -> Float64[np.ndarray, " n"]:
    """Return the score of each example on itself; where these are one value but for rounding, that value for all.

    Raises:
        DataError: Targets are not the training examples.
    """
    if scores.shape[0] != scores.shape[1]:
        raise DataError(
            f"Self-influence needs scores of every training example on itself, but they have shape {scores.shape}."
        )
    values = np.array(np.diagonal(scores), dtype=np.float64)
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        values[:] = values.mean()
    return values


def precision_recall(
    flipped: Bool[np.ndarray, " n"], influence: Float64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " thresholds"], Float64[np.ndarray, " thresholds"], Float64[np.ndarray, " thresholds"]]:
    """Return, for each number of examples that can be looked at, that number, precision and recall.

    Examples of equal self-influence are looked at together, so that there may be fewer numbers than examples.

    Args:
        flipped: Which labels are wrong.
        influence: Self-influence; the highest come first.
    """
    # Here, as everything below: scikit-learn takes longer to import than stages without it to run.
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(flipped, influence)
    # The last point of scikit-learn's is no number of examples. The rest comes with falling recall.
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    examined = len(influence) - np.searchsorted(np.sort(influence), thresholds[::-1], side="left")
    return examined.astype(np.int64), precision, recall


def average_precision_interval(
    flipped: Bool[np.ndarray, " n"],
    influence: Float64[np.ndarray, " n"],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Return the average precision with a percentile bootstrap interval over examples.

    Wrong and right labels are resampled apart, since how many there are of each was fixed. Equal seeds resample alike.
    """
    from sklearn.metrics import average_precision_score

    random = generator(seed, "bootstrap mislabel")
    kinds = [np.flatnonzero(flipped), np.flatnonzero(~flipped)]
    values = np.empty(resamples)
    for number in progress(range(resamples), "bootstrap"):
        rows = np.concatenate([random.choice(kind, len(kind)) for kind in kinds])
        values[number] = average_precision_score(flipped[rows], influence[rows])
    return Interval.of(average_precision_score(flipped, influence), values, confidence)
