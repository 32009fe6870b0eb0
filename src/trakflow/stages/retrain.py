"""Stages retrain and retrained_outputs: models on the evaluation's subsets, and what they say of the targets."""

import numpy as np
import torch
from torch import Tensor

from trakflow.config.schema import Config
from trakflow.layout import EVALUATION, Layout
from trakflow.seeds import derive_seed
from trakflow.stages.common import (
    device_of,
    make_task,
    model_factory,
    references_content,
    references_of,
    target_tensors,
    tensors,
)
from trakflow.stages.provenance import provenance
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile, content, write_arrays
from trakflow.training.ensemble import ensemble_outputs, train_ensemble


def retrain(config: Config, layout: Layout) -> None:
    """Train one model on each subset of a batch and write their stacked weights."""
    batch, number = require(config.job.batch, "job.batch"), require(config.job.retrain, "job.retrain")
    purpose = config.job.purpose
    data, chosen = ArrayFile(layout.train), ArrayFile(layout.subsets(batch, purpose))
    masks = chosen.read("masks").astype(bool)
    first = chosen.provenance["first"]
    role = "retrain" if purpose == EVALUATION else "retrain for fitting"
    seeds = [derive_seed(config.seed, role, number, first + row) for row in range(len(masks))]
    arrays = tensors(data, device_of(config))
    state = train_ensemble(model_factory(config), make_task(config), arrays, masks, config.training, seeds)
    facts = {"masks": content(chosen), "data_content": content(data)}
    weights = {name: _array(value) for name, value in state.items()}
    write_arrays(layout.retrained(number, batch, purpose), weights, provenance(config, "retrain", **facts))


def retrained_outputs(config: Config, layout: Layout) -> None:
    """Write the outputs of one batch of retrained models at the targets."""
    batch, number = require(config.job.batch, "job.batch"), require(config.job.retrain, "job.retrain")
    purpose = config.job.purpose
    models, data = ArrayFile(layout.retrained(number, batch, purpose)), ArrayFile(layout.targets)
    state = {name: torch.from_numpy(models.read(name)) for name in models.names}
    arrays, task = target_tensors(data, device_of(config)), make_task(config)
    references = references_of(config, layout, task)
    outputs = ensemble_outputs(
        model_factory(config), task, state, arrays, config.runtime.forward_batch_size, references
    )
    facts = {
        "masks": models.provenance["masks"],
        "data_content": content(data),
        **references_content(layout, task),
    }
    write_arrays(
        layout.retrained_outputs(number, batch, purpose),
        {"outputs": outputs.cpu().numpy()},
        provenance(config, "retrained_outputs", **facts),
    )


def _array(value: Tensor) -> np.ndarray:
    # numpy has no bfloat16; float32 holds every value of it, and the model takes it back as it was.
    return (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
