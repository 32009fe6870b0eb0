"""Seconds of plain forward and backward passes: what compute is counted in, so that figures hold on other machines."""

from time import perf_counter

from torch import Tensor, nn

from trakflow.tasks.base import Task
from trakflow.tasks.running import floating_type, run_model
from trakflow.training.sgd import Arrays

WARM_UP = 1


def pass_seconds(model: nn.Module, task: Task, arrays: Arrays, batch_size: int, repeats: int) -> list[float]:
    """Time passes over all examples: the loss of a batch and its gradient, without a step.

    Args:
        model: In evaluation mode.
        task: Gives the loss.
        arrays: The examples' tensors (n x ...).
        batch_size: Examples at a time.
        repeats: Passes to time, after one that is not.

    Returns:
        Seconds of each pass.
    """
    found = []
    for _ in range(WARM_UP + repeats):
        began = perf_counter()
        _pass(model, task, arrays, batch_size)
        found.append(perf_counter() - began)
    return found[WARM_UP:]


def _pass(model: nn.Module, task: Task, arrays: Arrays, batch_size: int) -> None:
    dtype = floating_type(model)
    size = len(next(iter(arrays.values())))
    loss: Tensor | None = None
    for start in range(0, size, batch_size):
        batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
        loss = task.loss(run_model(task, model, batch, dtype), batch).mean()
        loss.backward()
        model.zero_grad()
    if loss is not None:
        loss.item()  # waits for a GPU
