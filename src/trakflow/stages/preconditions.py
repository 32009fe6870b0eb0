"""What later jobs would fail at is tried before anything is trained: the task, the sketch and every method.

An untrained model and two training examples are enough to see whether f, Q, W and gradients can be taken, whether
settings of a method are possible, and whether its package is there; an experiment whose last job fails has trained all
of its models in vain. Nothing is written, and torch's random numbers go on as if nothing had been drawn. Targets are no
part of it: which of their labels are attributed may be known only when all checkpoints have been trained.

Every job that makes a checkpoint does it, since none of them need run before the others, and does it before its seconds
are counted.
"""

import torch
from torch import nn

from trakflow.config.schema import Config
from trakflow.config.variants import ablated_variants, published_k
from trakflow.errors import ConfigError, TrakflowError
from trakflow.layout import Layout
from trakflow.methods.base import Planned, Trained
from trakflow.models.weights import load_weights, read_state
from trakflow.sketches.build import build_sketch
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.stages.common import check_model, device_of, make_task, model_factory, references_of, tensors
from trakflow.stages.featurize import require_curvature
from trakflow.stages.methods import make_method
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile
from trakflow.tasks.preparation import prepared
from trakflow.tasks.running import try_outputs
from trakflow.training.sgd import make_model

# Sketches with hooks tell examples apart by comparing a pass of two with one of a single one.
TRIED = 2


def check_experiment(config: Config, layout: Layout) -> None:
    """Refuse an experiment whose later jobs would fail whatever is trained.

    Raises:
        ConfigError: Says what would fail, and that nothing has been trained.
    """
    device = device_of(config)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trained = _untrained(config, layout)
            try_outputs(trained.task, trained.model, trained.train, config.solver.weights == "on")
            _check_sketch(config, trained)
            _check_published(config, trained)
            for name in config.method:
                _check_method(config, trained, name)
    except TrakflowError as error:
        model = "an untrained model" if config.checkpoints.files is None else "the checkpoint"
        raise ConfigError(
            f"{error} (This was found before any training, by {model} and {TRIED} training examples.)"
        ) from error


def check_imported(config: Config, layout: Layout) -> None:
    """Refuse it with one of the user's own checkpoints in place of an untrained model.

    On a CPU alone: the job that imports a checkpoint is given no GPU.

    Raises:
        ConfigError: As `check_experiment`.
    """
    if torch.device(config.runtime.device).type == "cpu":
        check_experiment(config, layout)


def _untrained(config: Config, layout: Layout) -> Trained:
    checkpoint, device = require(config.job.checkpoint, "job.checkpoint"), device_of(config)
    task = make_task(config)
    require_curvature(config, task)
    arrays = tensors(ArrayFile(layout.train), device, slice(0, TRIED))
    model = _model(config, checkpoint).to(device).eval()
    if config.checkpoints.files is None:
        # As it is trained: by a task without references.
        check_model(config, model, task, arrays)
    task = prepared(task, model, references_of(config, layout, task))
    check_model(config, model, task, arrays)
    return Trained(
        model=model,
        task=task,
        train=arrays,
        targets=arrays,
        mask=None,
        number=checkpoint,
        seed=config.seed,
        batch_size=config.runtime.forward_batch_size,
        memory_bytes=config.runtime.memory_mb * 2**20 // 2,
        device=str(device),
    )


def _model(config: Config, checkpoint: int) -> nn.Module:
    model = make_model(model_factory(config), 0)
    if config.checkpoints.files is not None:
        origin = config.checkpoints.files[checkpoint]
        load_weights(model, read_state(origin), f"Checkpoint {origin}")
    return model


def _check_sketch(config: Config, trained: Trained) -> None:
    sketch = build_sketch(config.sketch, trained.model, trained.task, trained.seed, trained.number, trained.device)
    sketch.try_on(trained.train)
    entries = _entries(config, trained)
    if config.solver.ridge == 0 and (sketch.k >= config.data.train_size or sketch.k > entries):
        raise ConfigError(
            f"solver.ridge=0 needs fewer features than training examples, and not more than parameters, or the system "
            f"has no unique solution; but sketch={config.sketch.name} has {sketch.k} features for this model of "
            f"{entries} parameters, and data.train_size is {config.data.train_size}. Set solver.ridge=auto or to a "
            "positive number, or choose another sketch."
        )


def _check_published(config: Config, trained: Trained) -> None:
    entries = _entries(config, trained)
    if "published_formula" in ablated_variants(config) and published_k(config) > entries:
        raise ConfigError(
            f"The ablation table has TRAK as published, without a ridge, with k = {published_k(config)}; but this "
            f"model has {entries} parameters, and with more features than these the system has no unique solution. "
            f"Leave the table out by paper.ablation=false, or set sketch.k to at most {entries}."
        )


def _entries(config: Config, trained: Trained) -> int:
    found = differentiated_parameters(trained.model, config.sketch.parameters)
    return sum(value.numel() for value in found.values())


def _check_method(config: Config, trained: Trained, name: str) -> None:
    if config.method[name].files:
        # Its jobs are given them; this one may run where they are not.
        return
    method = make_method(config, name)
    try:
        method.check(Planned(trained, config.data.train_size, config.data.target_count, config.counts_of(name)))
    except TrakflowError as error:
        raise ConfigError(f"Method {name} cannot attribute this experiment: {error}") from error
