"""Stage ablate: the LDS without parts of the method."""

from collections.abc import Iterator

import numpy as np
import torch

from trakflow.config.ablation import check_ablation
from trakflow.config.schema import Config
from trakflow.config.shards import batch_count
from trakflow.config.variants import ablated_variants
from trakflow.evaluation.ablation import DenseParts, ablated_scores, soft_threshold
from trakflow.evaluation.lds import lds, predicted_outputs
from trakflow.evaluation.retrained import read_batches
from trakflow.layout import FITTING, Layout
from trakflow.stages.attribute import features_of, load_parts
from trakflow.stages.evaluate import evaluation_data, lds_columns, write_table
from trakflow.stages.tables import read_table
from trakflow.store.files import read_facts

# Parts of each target's scores that the soft-threshold may set to zero.
PARTS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)


def ablate(config: Config, layout: Layout) -> None:
    """Write the table of ablations: what the LDS of all checkpoints is without each part of the method."""
    masks, outputs = evaluation_data(config, layout)
    found = ablated_scores(_parts(config, layout))
    rows = [
        {"variant": name, **lds_columns(config, scores, masks, outputs)}
        for name, scores in (*found.items(), *_thresholded(config, layout, found["TRAK"]))
    ]
    for name, text in ablated_variants(config).items():
        # By rows: a row of a data frame has one type, and numbers of subsets would become fractions.
        *_, last = read_table(Layout(layout.variant(name)).lds).to_dict("records")
        rows.append({"variant": text, **{column: last[column] for column in rows[0] if column != "variant"}})
    write_table(layout.ablation, rows)


def _parts(config: Config, layout: Layout) -> list[DenseParts]:
    total = config.checkpoints.total
    ridge = read_facts(layout.ridge(total), "value", "unit")
    n, m, k = config.data.train_size, config.data.target_count, features_of(config, layout, 0).k
    # Where sketch.k is null, k is known only now.
    check_ablation(total, n, m, k, config.runtime.memory_mb)
    return [_dense(config, layout, checkpoint, (ridge["value"], ridge["unit"])) for checkpoint in range(total)]


def _dense(config: Config, layout: Layout, checkpoint: int, ridge: tuple[float, str]) -> DenseParts:
    loaded = load_parts(config, layout, checkpoint, ridge)
    features = loaded.features
    weighted = config.solver.weights == "on"
    curvatures = features.column("curvatures") if weighted else np.ones(features.n, np.float32)
    return DenseParts(
        # The rows' memory is used again for the next ones.
        torch.cat([rows.double() for _, rows in features.phi()]),
        torch.from_numpy(features.loss_gradients()).double(),
        torch.from_numpy(curvatures).double(),
        loaded.target_features.double(),
        loaded.ridge,
    )


def _thresholded(config: Config, layout: Layout, scores: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Soft-threshold the scores by the part that is best on the subsets of `fitting`, where there are any."""
    if not config.fitted_methods:
        return
    largest = max(config.counts_of(method)[-1] for method in config.fitted_methods)
    batches = batch_count(largest, config.evaluation.models_per_batch)
    masks, outputs = read_batches(layout, config.fitting.retrains, batches, FITTING)
    actual = outputs.mean(axis=0)
    best = max(PARTS, key=lambda part: lds(predicted_outputs(soft_threshold(scores, part), masks), actual))
    yield f"with a soft-threshold ({best:.0%} of scores zero)", soft_threshold(scores, best)
