"""Stages featurize and featurize_targets: gradients of the output function, sketched."""

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trakflow.config.schema import Config
from trakflow.config.shards import shard_range
from trakflow.errors import ConfigError
from trakflow.features import stored_features, write_shard
from trakflow.layout import Layout
from trakflow.sketches.base import Sketch
from trakflow.sketches.batches import sketch_all
from trakflow.sketches.build import build_sketch
from trakflow.sketches.memory import examples_at_once
from trakflow.stages.common import (
    check_model,
    device_of,
    load_model,
    make_task,
    references_content,
    references_of,
    target_tensors,
    tensors,
)
from trakflow.stages.provenance import gradients_fingerprint, provenance
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile, content, write_arrays
from trakflow.store.files import file_hash
from trakflow.tasks.base import Task
from trakflow.tasks.preparation import prepared


def featurize(config: Config, layout: Layout) -> None:
    """Write one shard's features, Q and W by one checkpoint, and its Gram matrix where it has at least k rows."""
    checkpoint, shard = require(config.job.checkpoint, "job.checkpoint"), require(config.job.shard, "job.shard")
    start, stop = shard_range(config.data.train_size, config.shards, shard)
    task = make_task(config)
    require_curvature(config, task)
    arrays = tensors(ArrayFile(layout.train), device_of(config), slice(start, stop))
    sketch = checkpoint_sketch(config, layout, task, checkpoint, arrays)
    began = time.perf_counter()
    found = sketch_all(sketch, arrays, _batch_size(config, sketch, arrays), start, "featurize")
    facts = shard_facts(config, layout, sketch.k, time.perf_counter() - began)
    stored = stored_features(found.features, config.sketch.dtype)
    write_shard(layout.features(checkpoint, shard), found, stored, config.solver.weights == "on", facts)


def shard_facts(config: Config, layout: Layout, k: int, seconds: float) -> dict[str, Any]:
    """Return the provenance of the shard that a job makes, whether it computes the features or takes equal ones."""
    checkpoint, shard = require(config.job.checkpoint, "job.checkpoint"), require(config.job.shard, "job.shard")
    start, stop = shard_range(config.data.train_size, config.shards, shard)
    facts = {
        "checkpoint": checkpoint,
        "checkpoint_content": file_hash(layout.checkpoint(checkpoint)),
        "data_content": content(ArrayFile(layout.train)),
        "gradients": gradients_fingerprint(config),
        "start": start,
        "stop": stop,
        "total": config.data.train_size,
        "k": k,
        "dtype": config.sketch.dtype,
        "seconds": seconds,
    }
    return provenance(config, "featurize", **facts)


def featurize_targets(config: Config, layout: Layout) -> None:
    """Write features and outputs of the targets by one checkpoint."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    data = ArrayFile(layout.targets)
    arrays = target_tensors(data, device_of(config))
    task = make_task(config)
    sketch = checkpoint_sketch(config, layout, task, checkpoint, arrays)
    found = sketch_all(sketch, arrays, _batch_size(config, sketch, arrays), 0, "featurize targets")
    facts = {
        "checkpoint": checkpoint,
        "checkpoint_content": file_hash(layout.checkpoint(checkpoint)),
        "data_content": content(data),
        "gradients": gradients_fingerprint(config),
        "k": sketch.k,
        "dtype": config.sketch.dtype,
        **references_content(layout, task),
    }
    # Written in float32 whatever the storage dtype: targets are few, and scores are linear in them.
    kept = {"features": found.features.numpy(), "outputs": found.outputs.numpy()}
    write_arrays(layout.target_features(checkpoint), kept, provenance(config, "featurize_targets", **facts))


def require_curvature(config: Config, task: Task) -> None:
    """Refuse a task without W where rows are to be weighted by it.

    Raises:
        ConfigError: It has none.
    """
    if config.solver.weights == "on" and type(task).curvature is Task.curvature:
        raise ConfigError(
            f"Task {type(task).__name__} defines no curvature W = d2loss/df2, by which the rows of the Gram matrix "
            "are weighted. Define `curvature` in the task, or set solver.weights=off."
        )


def checkpoint_sketch(
    config: Config, layout: Layout, task: Task, checkpoint: int, arrays: Mapping[str, Tensor]
) -> Sketch:
    """Make the configured sketch with one checkpoint's weights, after trying the model on one of the examples."""
    model = load_model(config, layout.checkpoint(checkpoint))
    task = prepared(task, model, references_of(config, layout, task))
    check_model(config, model, task, arrays)
    return build_sketch(config.sketch, model, task, config.seed, checkpoint, str(device_of(config)))


def _batch_size(config: Config, sketch: Sketch, arrays: Mapping[str, Tensor]) -> int:
    """By the configured memory, never by what a retry was given, so that a retry gives the same bits."""
    if config.runtime.batch_size != "auto":
        return config.runtime.batch_size
    example = {name: array[:1] for name, array in arrays.items()}
    budget = config.runtime.memory_mb * 2**20 // 2
    return examples_at_once(sketch.bytes_per_example(example), budget, config.runtime.device)
