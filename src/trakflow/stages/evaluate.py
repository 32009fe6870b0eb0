"""Stages subsets and evaluate; without torch and pandas, whose imports take longer than the work."""

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trakflow.config.schema import Config
from trakflow.config.shards import batch_count, batch_indices
from trakflow.data.arrays import read_array
from trakflow.evaluation.lds import check_evaluation, lds_interval, noise_ceiling, predicted_outputs
from trakflow.evaluation.retrained import read_batches
from trakflow.layout import EVALUATION, TRAK, Layout
from trakflow.stages.provenance import provenance
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.store.files import atomic_path, read_facts
from trakflow.store.numpy_files import map_numpy
from trakflow.subsets import random_subsets

COLUMNS = (
    "method",
    "checkpoints",
    "sketch",
    "k",
    "ridge",
    "weights",
    "lds",
    "ci_low",
    "ci_high",
    "ceiling",
    "subsets",
    "retrains",
    "featurize_seconds",
    "ridge_unit",
    "fitted_subsets",
)


def subsets(config: Config, layout: Layout) -> None:
    """Write the masks of one batch of subsets, for the evaluation or for methods that are fitted."""
    batch, settings, purpose = require(config.job.batch, "job.batch"), config.evaluation, config.job.purpose
    total = settings.subsets if purpose == EVALUATION else config.fitting.subsets
    chosen = batch_indices(total, settings.models_per_batch, batch)
    masks = random_subsets(config.data.train_size, settings.fraction, config.seed, purpose, chosen)
    write_arrays(layout.subsets(batch, purpose), {"masks": masks}, provenance(config, "subsets", first=chosen.start))


def evaluation_data(config: Config, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return masks (subsets x n, bool) and outputs (retrains x subsets x m, float32), retrained here or the user's own.

    Raises:
        DataError: The user's files do not fit the experiment.
        StoreError: Outputs were not made on these masks.
    """
    settings = config.evaluation
    if settings.source == "files":
        masks = read_array(str(settings.masks), "evaluation.masks")
        outputs = read_array(str(settings.outputs), "evaluation.outputs")
        outputs = outputs[None] if outputs.ndim == 2 else outputs
    else:
        batches = batch_count(settings.subsets, settings.models_per_batch)
        masks, outputs = read_batches(layout, settings.retrains, batches)
    check_evaluation(masks, outputs, config.data.train_size, config.data.target_count)
    return masks.astype(bool), outputs.astype(np.float32)


def evaluate(config: Config, layout: Layout) -> None:
    """Write the LDS of each method and number of checkpoints, with its interval and the noise ceiling."""
    masks, outputs = evaluation_data(config, layout)
    ceiling = noise_ceiling(outputs)
    rows = []
    for method in config.methods:
        counts = config.counts_of(method)
        for count in counts:
            scores = map_numpy(layout.score_array(count, counts[-1], method))
            found = {**lds_columns(config, scores, masks, outputs), "ceiling": ceiling}
            rows.append(_row(config, layout, method, count) | found)
    write_table(layout.lds, rows)


def lds_columns(
    config: Config,
    scores: Float[np.ndarray, "n m"],
    masks: Bool[np.ndarray, "subsets n"],
    outputs: Float[np.ndarray, "retrains subsets m"],
) -> dict[str, float]:
    """Return the columns of a table that say the LDS of scores, its interval, and what it was taken over."""
    settings = config.evaluation
    found = lds_interval(
        predicted_outputs(scores, masks), outputs.mean(axis=0), settings.bootstrap, settings.confidence, config.seed
    )
    return {
        "lds": found.value,
        "ci_low": found.low,
        "ci_high": found.high,
        "subsets": len(masks),
        "retrains": len(outputs),
    }


def _row(config: Config, layout: Layout, method: str, count: int) -> dict[str, Any]:
    """A method's row of the table, in the table's order, without its results; empty where it has no such thing."""
    by_checkpoints = method == TRAK or config.method[method].reads_checkpoints
    fitted = method in config.fitted_methods
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "method": method,
        "checkpoints": count if by_checkpoints else 0,
        "fitted_subsets": count if fitted else 0,
    }
    if method != TRAK:
        return row
    ridge = read_facts(layout.ridge(count), "value", "unit")
    features = _feature_facts(config, layout, count)
    return row | {
        "sketch": config.sketch.name,
        "k": features[0]["k"],
        "ridge": ridge["value"],
        "weights": config.solver.weights,
        "featurize_seconds": sum(facts["seconds"] for facts in features),
        "ridge_unit": ridge["unit"],
    }


def _feature_facts(config: Config, layout: Layout, count: int) -> list[dict[str, Any]]:
    """What every feature file of the first checkpoints says of itself."""
    paths = [layout.features(checkpoint, shard) for checkpoint in range(count) for shard in range(config.shards)]
    return [ArrayFile(path).provenance for path in paths]


def write_table(path: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows of equal keys as a table; NaN and None are empty cells.

    Args:
        path: Where to.
        rows: At least one, unless `columns` are given.
        columns: Their keys.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: object) -> object:
    # Empty where there is no number, as every reader of tables expects.
    return None if isinstance(value, float) and math.isnan(value) else value
