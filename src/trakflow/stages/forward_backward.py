"""Stage forward_backward: the unit in which compute is counted."""

import numpy as np

from trakflow.config.schema import Config
from trakflow.layout import Layout
from trakflow.machine import machine
from trakflow.stages.common import check_model, device_of, load_model, make_task, references_of, tensors
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import write_json
from trakflow.tasks.preparation import prepared
from trakflow.training.passes import pass_seconds

PASSES = 7


def forward_backward(config: Config, layout: Layout) -> None:
    """Write the seconds of a forward and backward pass of the first checkpoint over the training set."""
    arrays = tensors(ArrayFile(layout.train), device_of(config))
    model, task = load_model(config, layout.checkpoint(0)), make_task(config)
    task = prepared(task, model, references_of(config, layout, task))
    check_model(config, model, task, arrays)
    size = config.runtime.forward_batch_size
    seconds = pass_seconds(model, task, arrays, size, PASSES)
    facts = {
        "seconds": float(np.median(seconds)),
        "low": min(seconds),
        "high": max(seconds),
        "passes": PASSES,
        "examples": config.data.train_size,
        "batch_size": size,
        "threads": config.runtime.threads,
        "device": str(device_of(config)),
        "machine": machine(),
        "parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }
    write_json(layout.forward_backward, facts)
