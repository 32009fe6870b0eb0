"""What several stages need: components from the configuration, tensors from files, provenance."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import hydra.utils
import numpy as np
import torch
from hydra.errors import HydraException
from torch import Tensor, nn

from trakflow.config.schema import Config
from trakflow.config.stages import VERSIONS, stage_settings
from trakflow.data.examples import read_arrays
from trakflow.errors import ConfigError, DeviceError
from trakflow.models.weights import load_weights, read_state
from trakflow.store import ArrayFile, fingerprint
from trakflow.tasks.base import Task
from trakflow.training.sgd import make_model


def instantiate(component: Mapping[str, Any], setting: str) -> Any:
    """Call a component's `_target_` with its arguments.

    Raises:
        ConfigError: It cannot be found or refuses its arguments.
    """
    try:
        return hydra.utils.instantiate(dict(component))
    except (HydraException, TypeError) as error:
        cause = _missing_name(str(component["_target_"])) or error.__cause__ or error
        raise ConfigError(f"`{setting}` ({component['_target_']}) cannot be made: {cause}") from error


def _missing_name(target: str) -> str | None:
    """Say which names a module does have, where the one asked for is what is missing."""
    module_name, _, name = target.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None or hasattr(module, name):
        return None
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
    file = getattr(module, "__file__", "")
    return f"module {module_name} ({file}) has no `{name}`; it has {', '.join(own) or 'nothing'}"


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
    """Return a function that makes the untrained model."""

    def make() -> nn.Module:
        model = instantiate(config.model, "model")
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"`model` ({config.model['_target_']}) made a {type(model).__name__}; it must be a torch.nn.Module."
            )
        return model

    return make


def device_of(config: Config) -> torch.device:
    """Return the configured device.

    Raises:
        DeviceError: It is not there.
    """
    try:
        device = torch.device(config.runtime.device)
    except RuntimeError as error:
        raise DeviceError(
            f"runtime.device={config.runtime.device} is no device; use cpu, cuda or cuda:<number>."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"runtime.device={device} but no NVIDIA GPU is visible; set runtime.device=cpu.")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"runtime.device={device} cannot be used ({reason}); use cpu, cuda or cuda:<number>."
        ) from error
    return device


def load_model(config: Config, path: str) -> nn.Module:
    """Return the model with one of the workflow's checkpoints, on the configured device, in evaluation mode."""
    model = make_model(model_factory(config), 0)
    load_weights(model, read_state(path), f"Checkpoint {path}")
    return model.to(device_of(config)).eval()


def tensors(file: ArrayFile, device: torch.device, rows: slice = slice(None)) -> dict[str, Tensor]:
    """Read examples as tensors, without their ids."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)
        for name, array in read_arrays(file).items()
    }


def target_tensors(file: ArrayFile, device: torch.device) -> dict[str, Tensor]:
    """Read targets with the attributed label in place of the true one."""
    arrays = tensors(file, device)
    attributed = arrays.pop("attributed_labels", None)
    return arrays if attributed is None else {**arrays, "labels": attributed}


def provenance(config: Config, stage: str, **facts: Any) -> dict[str, Any]:
    """Return what a stage writes of itself into its file."""
    return {"stage": stage, "version": VERSIONS[stage], "settings": fingerprint(stage_settings(config, stage)), **facts}


def content(file: ArrayFile) -> str:
    """Return a hash of a file's contents, from its checksums: equal contents give equal hashes."""
    return fingerprint(file.checksums)


def gradients_fingerprint(config: Config) -> str:
    """Return a hash of what defines features: equal for training examples and targets that belong together."""
    settings = stage_settings(config, "featurize")
    return fingerprint({key: value for key, value in settings.items() if key != "version"})


def check_model(config: Config, model: nn.Module, task: Task, arrays: Mapping[str, Tensor]) -> None:
    """Run the model on one example, so that one that does not fit the data is refused before any work.

    Raises:
        ConfigError: The model cannot take an example, or the task cannot read what it returns.
    """
    example = {name: array[:1] for name, array in arrays.items()}
    training = model.training
    try:
        with torch.no_grad():
            raw = task.forward(model.eval(), example)
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in example.items())
        raise ConfigError(
            f"`model` ({config.model['_target_']}) cannot take one example ({shapes}): {str(error).splitlines()[0]}. "
            "Make the model's inputs and the data agree."
        ) from error
    finally:
        model.train(training)
    task.check(raw, config.data.num_classes)
