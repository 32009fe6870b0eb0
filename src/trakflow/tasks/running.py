"""Running a model on a batch: inputs in the model's type, and what it returns in float32 or better.

The model is never converted. A task's `forward` gets the batch with floating tensors in the type of the model's
parameters; its other methods get the batch as it is, so that a value that is regressed on keeps its digits, and `raw`
in at least float32, so that f, Q and W of a model in half precision are computed in single.
"""

import torch
from torch import Tensor, nn

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Model, Task

# What models and tasks raise where they and the data do not fit each other.
STUMBLES = (RuntimeError, ValueError, LookupError, AttributeError, TypeError)


def floating_type(model: nn.Module) -> torch.dtype | None:
    """Return the type of a model's floating parameters, by the first of them; None where it has none."""
    return next((value.dtype for value in model.parameters() if value.is_floating_point()), None)


def run_model(task: Task, model: Model, batch: Batch, dtype: torch.dtype | None) -> Tensor:
    """Return what the task's forward returns.

    Args:
        task: The task.
        model: The model, or what calls it.
        batch: The examples.
        dtype: Of the model, by `floating_type`.

    Returns:
        `raw`, one row an example; float32 where the model computed in less.

    Raises:
        ConfigError: The task was given something else than a tensor by the model, and knows nothing to do with it.
    """
    raw = task.forward(model, {name: _in_type(value, dtype) for name, value in batch.items()})
    if not isinstance(raw, Tensor):
        raise ConfigError(
            f"The model returns {type(raw).__name__}, and {type(task).__name__} reads a tensor. Choose the task that "
            "is for such models (task=text_classification or task=language_modeling for those of transformers, "
            "task=clip for two encoders), or define `forward` in a task of your own."
        )
    return raw.float() if raw.is_floating_point() and raw.itemsize < 4 else raw


def try_model(task: Task, model: nn.Module, batch: Batch, name: str) -> Tensor:
    """Run a model in evaluation mode on the first example of a batch, so that one that does not fit it is refused.

    Args:
        task: The task.
        model: The model; its mode is as before afterwards.
        batch: At least one example.
        name: What the model is called in the message.

    Returns:
        `raw` of that example.

    Raises:
        ConfigError: The model cannot take it, or it lacks an array that the task reads.
    """
    example = {name: value[:1] for name, value in batch.items()}
    task.check_arrays(example)
    training = model.training
    try:
        with torch.no_grad():
            return run_model(task, model.eval(), example, floating_type(model))
    except STUMBLES as error:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in example.items())
        raise ConfigError(
            f"{name} cannot take one example ({shapes}): {_cause(error)}. Make the model's inputs, the data and the "
            f"task ({type(task).__name__}) agree.{_about_bytes(example)}"
        ) from error
    finally:
        model.train(training)


def try_outputs(task: Task, model: nn.Module, batch: Batch, weighted: bool) -> None:
    """Let a task compute f and Q of a batch, and W where rows are to be weighted by it.

    Args:
        task: The task, as it is for this model.
        model: The model, in evaluation mode.
        batch: A few examples.
        weighted: Whether W is needed.

    Raises:
        ConfigError: It fails at one of them.
    """
    with torch.no_grad():
        raw = run_model(task, model, batch, floating_type(model))
        for function in (task.output, task.loss_gradient, *([task.curvature] if weighted else [])):
            try:
                function(raw, batch)
            except STUMBLES as error:
                shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
                raise ConfigError(
                    f"`{function.__name__}` of the task {type(task).__name__} fails for what the model returns (shape "
                    f"{tuple(raw.shape)}) and the examples ({shapes}): {_cause(error)}. Make the model, the data and "
                    "the task agree."
                ) from error


def _cause(error: Exception) -> str:
    """The error's first line; with its kind where that says nothing by itself: the text of a KeyError is the key."""
    first = next(iter(str(error).splitlines()), "")
    told = first and not isinstance(error, (KeyError, AttributeError))
    return first if told else f"{type(error).__name__}: {first}".rstrip(": ")


def _about_bytes(example: Batch) -> str:
    of_bytes = [name for name, value in example.items() if value.dtype == torch.uint8]
    if not of_bytes:
        return ""
    return (
        f" '{of_bytes[0]}' are bytes, and reach the model as bytes: only you know how they are to be scaled. Bring "
        "them to floating numbers in the data, or where the model begins, as trakflow.models.pixels.NormalisedPixels "
        "does."
    )


def _in_type(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value if dtype is None or not value.is_floating_point() else value.to(dtype)
