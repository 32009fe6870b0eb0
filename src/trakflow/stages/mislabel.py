"""Stage evaluate_mislabel: how well each method's self-influence finds the labels that were exchanged. No torch."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from trakflow.config.schema import Config
from trakflow.data.examples import FLIPPED, read_ids
from trakflow.errors import DataError
from trakflow.evaluation.mislabel import average_precision_interval, precision_recall, self_influence
from trakflow.layout import Layout
from trakflow.stages.evaluate import write_table
from trakflow.store.array_file import ArrayFile


def evaluate_mislabel(config: Config, layout: Layout) -> None:
    """Write the average precision of each method, and its precision and recall at each number of examples."""
    flipped, settings = _flipped(layout), config.evaluation
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for method in config.methods:
        count = config.counts_of(method)[-1]
        influence = self_influence(np.load(layout.score_array(count, count, method), mmap_mode="r"))
        found = average_precision_interval(flipped, influence, settings.bootstrap, settings.confidence, config.seed)
        rows.append(
            {
                "method": method,
                "average_precision": found.value,
                "ci_low": found.low,
                "ci_high": found.high,
                "flipped": int(flipped.sum()),
                "examples": len(flipped),
            }
        )
        names = ("examined", "precision", "recall")
        points = zip(*(values.tolist() for values in precision_recall(flipped, influence)), strict=True)
        curves += [{"method": method, **dict(zip(names, point, strict=True))} for point in points]
    write_table(layout.mislabel_curve, curves)
    write_table(layout.mislabel, rows)


def _flipped(layout: Layout) -> Bool[np.ndarray, " n"]:
    train = ArrayFile(layout.train)
    if FLIPPED not in train:
        raise DataError(
            f"mislabel=true, but it is not known which labels of {layout.train} are wrong; wrap data.train in "
            f"trakflow.data.mislabelled.mislabelled, or return Examples with an array '{FLIPPED}' (n, bool)."
        )
    if read_ids(train) != read_ids(ArrayFile(layout.targets)):
        raise DataError("mislabel=true asks of every training example what it says of itself: data.targets must be it.")
    flipped = train.read(FLIPPED).astype(bool)
    if flipped.ndim != 1 or not 0 < flipped.sum() < len(flipped):
        raise DataError(f"'{FLIPPED}' of {layout.train} must mark some examples and leave some, one value an example.")
    return flipped
