"""Stages train_checkpoint, import_checkpoint and import_mask: two ways to a checkpoint, one file format."""

import numpy as np

from trakflow.config.schema import Config
from trakflow.data.arrays import read_array
from trakflow.errors import ConfigError, DataError
from trakflow.layout import Layout
from trakflow.models.weights import load_weights, read_state, write_weights
from trakflow.seeds import derive_seed
from trakflow.stages.common import check_model, device_of, make_task, model_factory, tensors
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile
from trakflow.store.numpy_files import write_numpy
from trakflow.subsets import random_subset
from trakflow.training.sgd import make_model, train_model


def train_checkpoint(config: Config, layout: Layout) -> None:
    """Train one checkpoint on its random part of the data, or on everything."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    size = config.data.train_size
    mask = np.ones(size, dtype=bool)
    run = config.checkpoints.run_of(checkpoint)
    if config.checkpoints.trained_on == "halves":
        mask = random_subset(size, config.checkpoints.fraction, config.seed, "checkpoint", run)
    arrays = tensors(ArrayFile(layout.train), device_of(config))
    task, factory = make_task(config), model_factory(config)
    check_model(config, make_model(factory, 0).to(device_of(config)), task, arrays)
    seed = derive_seed(config.seed, "checkpoint", run)
    last = config.checkpoints.epoch_of(checkpoint)
    model = train_model(factory, task, arrays, np.flatnonzero(mask), config.training, seed, last)
    write_numpy(layout.checkpoint_mask(checkpoint), mask)
    write_weights(layout.checkpoint(checkpoint), model.state_dict())


def import_checkpoint(config: Config, layout: Layout) -> None:
    """Check one of the user's own checkpoints against the model and keep it as safetensors."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    if config.checkpoints.files is None:
        raise ConfigError("checkpoints.files is not set, so there is nothing to import.")
    origin = config.checkpoints.files[checkpoint]
    model = make_model(model_factory(config), 0)
    load_weights(model, read_state(origin), f"Checkpoint {origin}")
    write_weights(layout.checkpoint(checkpoint), model.state_dict())


def import_mask(config: Config, layout: Layout) -> None:
    """Keep which examples one of the user's own checkpoints was trained on."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    if config.checkpoints.masks is None:
        raise ConfigError("checkpoints.masks is not set, so there is nothing to import.")
    masks = read_array(config.checkpoints.masks, "checkpoints.masks")
    expected = (config.checkpoints.total, config.data.train_size)
    if masks.shape != expected or not np.isin(masks, (0, 1)).all():
        raise DataError(
            f"checkpoints.masks must be an array of 0 and 1 of shape {expected}, one row a checkpoint; "
            f"{config.checkpoints.masks} has shape {masks.shape} and values up to {masks.max(initial=0)}."
        )
    write_numpy(layout.checkpoint_mask(checkpoint), masks[checkpoint].astype(bool))
