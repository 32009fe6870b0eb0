"""What the stages that run a model need: it, its task and its device from the configuration, tensors from files."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from trakflow.config.schema import Config
from trakflow.data.examples import read_arrays
from trakflow.devices import usable_device
from trakflow.errors import ConfigError
from trakflow.layout import Layout
from trakflow.models.weights import load_weights, read_state
from trakflow.models.wrapped import unwrap
from trakflow.stages.components import instantiate
from trakflow.store.array_file import ArrayFile, content
from trakflow.tasks.base import Task
from trakflow.tasks.preparation import ReferencedTask, reference_rows
from trakflow.tasks.running import try_model
from trakflow.training.sgd import make_model


def make_task(config: Config) -> Task:
    """Instantiate the task.

    Raises:
        ConfigError: It is no `trakflow.tasks.base.Task`.
    """
    task = instantiate(config.task, "task")
    if not isinstance(task, Task):
        raise ConfigError(
            f"`task` ({config.task['_target_']}) made a {type(task).__name__}; it must be a trakflow.tasks.base.Task."
        )
    return task


def model_factory(config: Config) -> Callable[[], nn.Module]:
    """Return a function that makes the untrained model, without wrappers around it."""

    def make() -> nn.Module:
        model = instantiate(config.model, "model")
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"`model` ({config.model['_target_']}) made a {type(model).__name__}; it must be a torch.nn.Module."
            )
        return unwrap(model)

    return make


def device_of(config: Config) -> torch.device:
    """Return the configured device.

    Raises:
        DeviceError: It is not there.
    """
    return usable_device(config.runtime.device)


def load_model(config: Config, path: str) -> nn.Module:
    """Return the model with one of the workflow's checkpoints, on the configured device, in evaluation mode."""
    model = make_model(model_factory(config), 0)
    load_weights(model, read_state(path), f"Checkpoint {path}")
    return model.to(device_of(config)).eval()


def tensors(
    file: ArrayFile, device: torch.device, rows: slice | Int[np.ndarray, " rows"] = slice(None)
) -> dict[str, Tensor]:
    """Read examples as tensors, without their ids; no more of the file than holds these rows."""
    arrays = read_arrays(file, rows)
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def target_tensors(file: ArrayFile, device: torch.device) -> dict[str, Tensor]:
    """Read targets with the attributed label in place of the true one."""
    arrays = tensors(file, device)
    attributed = arrays.pop("attributed_labels", None)
    return arrays if attributed is None else {**arrays, "labels": attributed}


def references_of(config: Config, layout: Layout, task: Task) -> dict[str, Tensor] | None:
    """Read the training examples that the task compares an example with; None for a task that compares with none."""
    rows = reference_rows(task, config.data.train_size)
    return None if rows is None else tensors(ArrayFile(layout.train), device_of(config), rows)


def references_content(layout: Layout, task: Task) -> dict[str, str]:
    """Return what files say of the training set that the task's reference examples are of, if it has any."""
    return {"references_content": content(ArrayFile(layout.train))} if isinstance(task, ReferencedTask) else {}


def check_model(config: Config, model: nn.Module, task: Task, arrays: Mapping[str, Tensor]) -> None:
    """Run the model on one example, so that one that does not fit the data is refused before any work.

    Raises:
        ConfigError: The model cannot take an example, or the task cannot read what it returns.
    """
    raw = try_model(task, model, arrays, f"`model` ({config.model['_target_']})")
    task.check(raw, config.data.num_classes)
