"""Any data set with a part of its labels exchanged for wrong ones, to see which methods find them."""

from typing import Any

import numpy as np

from trakflow.data.examples import FLIPPED, Examples, as_examples
from trakflow.errors import DataError
from trakflow.seeds import generator


def mislabelled(examples: Any, num_classes: int, fraction: float = 0.1, seed: int = 0) -> Examples:
    """Return examples of which some have another label than their own, drawn uniformly from the other classes.

    Args:
        examples: `Examples`, or what else a data callable may return.
        num_classes: Labels lie in [0, num_classes).
        fraction: The part of labels that is exchanged, rounded to whole examples.
        seed: Of which ones, and of their labels.

    Returns:
        The same examples in the same order, and an array `flipped` (n, bool) of which were exchanged. No task reads it.

    Raises:
        DataError: Examples have no label each, there is only one class, or nothing or everything would be exchanged.
    """
    found = as_examples(examples)
    labels = found.labels
    if labels is None or labels.ndim != 1:
        raise DataError("Labels are to be exchanged, but the examples do not have one each.")
    count = round(fraction * len(labels))
    if num_classes < 2 or not 0 < count < len(labels):
        raise DataError(
            f"fraction={fraction:g} would exchange {count} of {len(labels)} labels of {num_classes} classes; it must "
            "leave some and exchange some, and there must be another class."
        )
    random = generator(seed, "mislabelled")
    chosen = random.permutation(len(labels))[:count]
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[chosen] = True
    wrong = labels.copy()
    wrong[chosen] = (labels[chosen] + random.integers(1, num_classes, count)) % num_classes
    arrays = {**found.arrays, "labels": wrong, FLIPPED: flipped}
    return Examples(arrays, found.ids, found.texts, found.groups)
