"""Stages subsets, retrain, retrained_outputs and evaluate."""

import numpy as np
import pandas as pd
import torch

from trakflow.config.schema import Config
from trakflow.config.shards import batch_count, batch_indices
from trakflow.data.arrays import read_array
from trakflow.errors import StoreError
from trakflow.evaluation.lds import check_evaluation, lds_interval, noise_ceiling, predicted_outputs
from trakflow.layout import METHOD, Layout
from trakflow.seeds import derive_seed
from trakflow.stages.attribute import features_of
from trakflow.stages.common import content, device_of, make_task, model_factory, provenance, target_tensors, tensors
from trakflow.stages.runner import require
from trakflow.store import ArrayFile, atomic_path, read_json, write_arrays
from trakflow.subsets import random_subsets
from trakflow.training.ensemble import ensemble_outputs, train_ensemble


def subsets(config: Config, layout: Layout) -> None:
    """Write the masks of one batch of evaluation subsets."""
    batch, settings = require(config.job.batch, "job.batch"), config.evaluation
    chosen = batch_indices(settings.subsets, settings.models_per_batch, batch)
    masks = random_subsets(config.data.train_size, settings.fraction, config.seed, "evaluation", chosen)
    write_arrays(layout.subsets(batch), {"masks": masks}, provenance(config, "subsets", first=chosen.start))


def retrain(config: Config, layout: Layout) -> None:
    """Train one model on each subset of a batch and write their stacked weights."""
    batch, number = require(config.job.batch, "job.batch"), require(config.job.retrain, "job.retrain")
    data, chosen = ArrayFile(layout.train), ArrayFile(layout.subsets(batch))
    masks = chosen.read("masks").astype(bool)
    first = chosen.provenance["first"]
    seeds = [derive_seed(config.seed, "retrain", number, first + row) for row in range(len(masks))]
    arrays = tensors(data, device_of(config))
    state = train_ensemble(model_factory(config), make_task(config), arrays, masks, config.training, seeds)
    facts = {"masks": content(chosen), "data_content": content(data)}
    weights = {name: value.cpu().numpy() for name, value in state.items()}
    write_arrays(layout.retrained(number, batch), weights, provenance(config, "retrain", **facts))


def retrained_outputs(config: Config, layout: Layout) -> None:
    """Write the outputs of one batch of retrained models at the targets."""
    batch, number = require(config.job.batch, "job.batch"), require(config.job.retrain, "job.retrain")
    models, data = ArrayFile(layout.retrained(number, batch)), ArrayFile(layout.targets)
    state = {name: torch.from_numpy(models.read(name)) for name in models.names}
    arrays = target_tensors(data, device_of(config))
    outputs = ensemble_outputs(
        model_factory(config), make_task(config), state, arrays, config.runtime.forward_batch_size
    )
    facts = {"masks": models.provenance["masks"], "data_content": content(data)}
    write_arrays(
        layout.retrained_outputs(number, batch),
        {"outputs": outputs.cpu().numpy()},
        provenance(config, "retrained_outputs", **facts),
    )


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
        files = [
            ArrayFile(layout.subsets(batch))
            for batch in range(batch_count(settings.subsets, settings.models_per_batch))
        ]
        masks = np.concatenate([file.read("masks") for file in files])
        outputs = np.stack([_outputs(layout, number, files) for number in range(settings.retrains)])
    check_evaluation(masks, outputs, config.data.train_size, config.data.target_count)
    return masks.astype(bool), outputs.astype(np.float32)


def _outputs(layout: Layout, number: int, masks: list[ArrayFile]) -> np.ndarray:
    parts = []
    for batch, file in enumerate(masks):
        outputs = ArrayFile(layout.retrained_outputs(number, batch))
        if outputs.provenance["masks"] != content(file):
            raise StoreError(
                f"{outputs.path} was made on other subsets than {file.path}. Delete it and run the same command again."
            )
        parts.append(outputs.read("outputs"))
    return np.concatenate(parts)


def evaluate(config: Config, layout: Layout) -> None:
    """Write the LDS of each number of checkpoints, with its interval and the noise ceiling."""
    masks, outputs = evaluation_data(config, layout)
    actual = outputs.mean(axis=0)
    ceiling = noise_ceiling(outputs)
    settings = config.evaluation
    rows = []
    for count in config.counts_evaluated:
        predicted = predicted_outputs(np.load(layout.score_array(count, config.checkpoints.total)), masks)
        estimate = lds_interval(predicted, actual, settings.bootstrap, settings.confidence, config.seed)
        ridge = read_json(layout.ridge(count))
        features = [features_of(config, layout, number) for number in range(count)]
        rows.append(
            {
                "method": METHOD,
                "checkpoints": count,
                "sketch": config.sketch.name,
                "k": features[0].k,
                "ridge": ridge["value"],
                "weights": config.solver.weights,
                "lds": estimate.value,
                "ci_low": estimate.low,
                "ci_high": estimate.high,
                "ceiling": ceiling,
                "subsets": len(masks),
                "retrains": len(outputs),
                "featurize_seconds": sum(feature.seconds for feature in features),
                "ridge_unit": ridge["unit"],
            }
        )
    with atomic_path(layout.lds) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
