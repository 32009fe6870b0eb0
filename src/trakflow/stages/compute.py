"""Stage compute: the LDS of every method beside what it cost; without torch, whose import takes longer than this."""

import math
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any

from trakflow.config.schema import Config
from trakflow.config.variants import name_of_size, sized_variants
from trakflow.evaluation.costs import Cost, SecondsOf, Work, cost_of, method_work, training_work, variant_work
from trakflow.layout import TRAK, Layout
from trakflow.stages.evaluate import write_table
from trakflow.stages.tables import read_table
from trakflow.stages.timing import read_seconds
from trakflow.store.files import read_facts

# Of scores from nothing, or made elsewhere.
UNKNOWN = Cost(math.nan, math.nan, math.nan, 0)


def compute(config: Config, layout: Layout) -> None:
    """Write for each row of the LDS table its seconds, and the same in passes over the training set.

    Rows of TRAK with a further k, which are those of variants, come after TRAK's own.
    """
    unit = read_facts(layout.forward_backward, "seconds", "threads")
    table = read_table(layout.lds)
    counts = [count for method in config.methods for count in config.counts_of(method)]
    seconds_of = cache(lambda name: read_seconds(layout.log(name)))
    rows = []
    for row, count in zip(table.to_dict("records"), counts, strict=True):
        work, training = method_work(config, row["method"], count), training_work(config, row["method"], count)
        rows.append(_row(row, work, training, seconds_of, unit))
    # TRAK comes first in every experiment.
    own = len(config.counts_of(TRAK))
    rows[own:own] = [
        _row({**row, "ceiling": rows[0]["ceiling"]}, work, training, seconds_of, unit)
        for row, work, training in _of_sizes(config, layout)
    ]
    write_table(layout.compute, rows)


def _of_sizes(config: Config, layout: Layout) -> Iterator[tuple[dict[Hashable, Any], list[Work], list[Work]]]:
    """Yield each row of the LDS of TRAK with a further k, its work, and the training of its checkpoints."""
    for k, name in sized_variants(config).items():
        for row in read_table(Layout(layout.variant(name)).lds).to_dict("records"):
            count = int(row["checkpoints"])
            named = {**row, "method": name_of_size(k), "fitted_subsets": 0}
            yield named, variant_work(name, count), training_work(config, TRAK, count)


def _row(
    row: dict[Hashable, Any],
    work: list[Work],
    training: list[Work],
    seconds_of: SecondsOf,
    unit: dict[str, Any],
) -> dict[str, Any]:
    method = cost_of(work, seconds_of) if work else UNKNOWN
    trained = cost_of(training, seconds_of)
    return {
        "method": row["method"],
        "checkpoints": row["checkpoints"],
        "fitted_subsets": row["fitted_subsets"],
        "seconds": method.seconds,
        "seconds_low": method.low,
        "seconds_high": method.high,
        "training_seconds": trained.seconds,
        "forward_backward_equivalents": method.seconds / unit["seconds"],
        "equivalents_with_training": (method.seconds + trained.seconds) / unit["seconds"],
        "lds": row["lds"],
        "ci_low": row["ci_low"],
        "ci_high": row["ci_high"],
        "ceiling": row["ceiling"],
        "subsets": row["subsets"],
        "retrains": row["retrains"],
        "repeats": method.repeats,
        "threads": unit["threads"],
    }
