"""Stages retrain_on_all and retrain_without: models whose predictions tell what removed examples were worth."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from trakflow.config.schema import Config
from trakflow.layout import Layout
from trakflow.seeds import derive_seed
from trakflow.stages.common import (
    device_of,
    make_task,
    model_factory,
    references_of,
    target_tensors,
    tensors,
)
from trakflow.stages.provenance import provenance
from trakflow.stages.removal import attributed_labels, removal_method
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile, content, write_arrays
from trakflow.training.ensemble import ensemble_outputs, ensemble_predictions, train_ensemble

# Trained on everything for each retrain: enough that what they say is not the noise that is left in the differences.
MODELS_ON_ALL = 10


def retrain_on_all(config: Config, layout: Layout) -> None:
    """Train models on everything; write their outputs and predicted labels at all targets (models x m)."""
    number = require(config.job.retrain, "job.retrain")
    # Refused before anything is trained, where targets have no label each.
    attributed_labels(layout)
    masks = np.ones((MODELS_ON_ALL, config.data.train_size), dtype=bool)
    outputs, predicted = _retrained(config, layout, masks, number, 0, np.arange(config.data.target_count))
    facts = _facts(config, layout, "retrain_on_all")
    write_arrays(layout.trained_on_all(number), {"outputs": outputs, "predicted": predicted}, facts)


def retrain_without(config: Config, layout: Layout) -> None:
    """Train a model without the removed examples of each target; write its output and predicted label there alone."""
    method, job = removal_method(config), config.job
    removed, batch = require(job.count, "job.count"), require(job.batch, "job.batch")
    number = require(job.retrain, "job.retrain")
    file = ArrayFile(layout.removed(method, removed, batch))
    masks, targets = file.read("masks").astype(bool), file.read("targets")
    found = _retrained(config, layout, masks, number, file.provenance["first"], targets)
    # Each model is asked about the target that its examples were removed for.
    outputs, predicted = (np.diagonal(array).copy() for array in found)
    facts = _facts(config, layout, "retrain_without", masks=content(file))
    path = Path(layout.trained_without(method, removed, number, batch))
    write_arrays(path, {"outputs": outputs, "predicted": predicted}, facts)


def _retrained(
    config: Config,
    layout: Layout,
    masks: Bool[np.ndarray, "models n"],
    number: int,
    first: int,
    targets: Int[np.ndarray, " targets"],
) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs (models x targets, float32) and predicted labels of models trained on the masks."""
    device, task, factory = device_of(config), make_task(config), model_factory(config)
    # The same for every method and number of removed examples, so that no method has the luckier seeds.
    seeds = [derive_seed(config.seed, "retrain for removal", number, first + row) for row in range(len(masks))]
    state = train_ensemble(factory, task, tensors(ArrayFile(layout.train), device), masks, config.training, seeds)
    rows = torch.from_numpy(targets).to(device)
    asked = {name: array[rows] for name, array in target_tensors(ArrayFile(layout.targets), device).items()}
    size, references = config.runtime.forward_batch_size, references_of(config, layout, task)
    outputs = ensemble_outputs(factory, task, state, asked, size, references)
    predicted = ensemble_predictions(factory, task, state, asked, size, references)
    return outputs.cpu().numpy(), predicted.cpu().numpy()


def _facts(config: Config, layout: Layout, stage: str, **facts: Any) -> dict[str, Any]:
    data = {"data_content": content(ArrayFile(layout.train)), "target_content": content(ArrayFile(layout.targets))}
    return provenance(config, stage, **data, **facts)
