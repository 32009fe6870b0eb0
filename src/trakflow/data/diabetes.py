"""scikit-learn's diabetes data (Efron et al. 2004): 442 patients, ten measurements, progression after a year."""

import numpy as np

from trakflow.data.examples import Examples
from trakflow.errors import DataError
from trakflow.seeds import generator

TRAIN_SIZE = 342
HELD_OUT = 100
# Of the data set's ten columns, those that a person reads at a glance.
SHOWN = {"age": "age {:.0f}", "bmi": "bmi {:.1f}", "bp": "bp {:.0f}", "s5": "s5 {:.1f}"}


def train(size: int = TRAIN_SIZE) -> Examples:
    """Return the first `size` training patients.

    Returns:
        inputs (size x 10, float32) and values (size, float32), each standardised by mean and standard deviation of all
        342 training patients, and texts that say a patient's age, body mass index, blood pressure, s5 (log of serum
        triglycerides) and progression in their own units.

    Raises:
        DataError: More are asked for than there are.
    """
    return _part(slice(0, TRAIN_SIZE), size, "data.train_size")


def targets(size: int = HELD_OUT) -> Examples:
    """Return the first `size` of the 100 held-out patients; arrays as `train`.

    Raises:
        DataError: More are asked for than there are.
    """
    return _part(slice(TRAIN_SIZE, None), size, "data.target_count")


def _part(part: slice, size: int, setting: str) -> Examples:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    # One fixed split whatever the experiment's seed: seeds vary models and projections, not the question asked.
    order = generator("diabetes").permutation(len(bunch.target))
    fitted, chosen = order[:TRAIN_SIZE], order[part]
    if size > len(chosen):
        raise DataError(f"{setting}={size}, but diabetes has {len(chosen)} such patients.")
    chosen = chosen[:size]
    arrays = {
        name: ((columns[chosen] - columns[fitted].mean(axis=0)) / columns[fitted].std(axis=0)).astype(np.float32)
        for name, columns in (("inputs", bunch.data), ("values", bunch.target))
    }
    names = list(bunch.feature_names)
    texts = [
        ", ".join(words.format(bunch.data[row, names.index(name)]) for name, words in SHOWN.items())
        + f": {bunch.target[row]:.0f}"
        for row in chosen
    ]
    return Examples(arrays, [f"patient-{row}" for row in chosen], texts=texts)
