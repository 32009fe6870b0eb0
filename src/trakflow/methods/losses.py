"""The training loss as a sum over examples, which methods of second order take the curvature of."""

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.methods.base import Trained
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.running import floating_type, run_model

# Of two sums of the same numbers in float32, in another order.
SAME = 1e-4


def require_loss_by_example(trained: Trained, instead: str) -> None:
    """Refuse a task whose loss is none, or compares the examples of a batch with each other.

    Args:
        trained: One checkpoint and the data.
        instead: What to do about it, for the message.

    Raises:
        ConfigError: The loss of two examples at once is not that of each alone, or there is none.
    """
    task = trained.task
    if type(task).loss is Task.loss:
        raise ConfigError(f"{type(task).__name__} has no loss, whose curvature is needed; {instead}.")
    pair = {name: array[:2] for name, array in trained.train.items()}
    with torch.no_grad():
        raw = run_model(task, trained.model, pair, floating_type(trained.model))
        together = task.loss(raw, pair)
        alone = torch.cat([_loss_of_one(task, raw, pair, row) for row in range(len(raw))])
    if together.shape != alone.shape or not torch.allclose(together, alone, rtol=SAME, atol=SAME):
        raise ConfigError(
            f"The loss of {type(task).__name__} depends on which examples are in a batch, so it has no curvature as a "
            f"sum over examples; {instead}."
        )


def _loss_of_one(task: Task, raw: Tensor, batch: Batch, row: int) -> Float[Tensor, " one"]:
    return task.loss(raw[row : row + 1], {name: value[row : row + 1] for name, value in batch.items()})
