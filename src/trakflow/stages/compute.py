"""Stage compute: the LDS of every method beside what it cost; without torch, whose import takes longer than this."""

import math
from collections.abc import Hashable
from functools import cache
from typing import Any

from trakflow.config.schema import Config
from trakflow.evaluation.costs import Cost, SecondsOf, cost_of, method_work, training_work
from trakflow.layout import Layout
from trakflow.stages.evaluate import write_table
from trakflow.stages.tables import read_table
from trakflow.stages.timing import read_seconds
from trakflow.store.files import read_facts

# Of scores from nothing, or made elsewhere.
UNKNOWN = Cost(math.nan, math.nan, math.nan, 0)


def compute(config: Config, layout: Layout) -> None:
    """Write for each row of the LDS table its seconds, and the same in passes over the training set."""
    unit = read_facts(layout.forward_backward, "seconds", "threads")
    table = read_table(layout.lds)
    counts = [count for method in config.methods for count in config.counts_of(method)]
    seconds_of = cache(lambda name: read_seconds(layout.log(name)))
    rows = [
        _row(config, row, count, seconds_of, unit) for row, count in zip(table.to_dict("records"), counts, strict=True)
    ]
    write_table(layout.compute, rows)


def _row(
    config: Config, row: dict[Hashable, Any], count: int, seconds_of: SecondsOf, unit: dict[str, Any]
) -> dict[str, Any]:
    work = method_work(config, row["method"], count)
    method = cost_of(work, seconds_of) if work else UNKNOWN
    training = cost_of(training_work(config, row["method"], count), seconds_of)
    return {
        "method": row["method"],
        "checkpoints": row["checkpoints"],
        "fitted_subsets": row["fitted_subsets"],
        "seconds": method.seconds,
        "seconds_low": method.low,
        "seconds_high": method.high,
        "training_seconds": training.seconds,
        "forward_backward_equivalents": method.seconds / unit["seconds"],
        "equivalents_with_training": (method.seconds + training.seconds) / unit["seconds"],
        "lds": row["lds"],
        "ci_low": row["ci_low"],
        "ci_high": row["ci_high"],
        "ceiling": row["ceiling"],
        "subsets": row["subsets"],
        "retrains": row["retrains"],
        "repeats": method.repeats,
        "threads": unit["threads"],
    }
