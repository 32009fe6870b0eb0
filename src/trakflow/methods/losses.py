"""The training loss as a sum over examples, which methods of second order take the curvature of."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import hessian, vmap

from trakflow.errors import ConfigError
from trakflow.methods.base import Trained
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.classification import Classification
from trakflow.tasks.running import floating_type, run_model

# Of two sums of the same numbers in float32, in another order.
SAME = 1e-4
# Numbers that a model may return for an example where the second derivative by them is factored.
LARGEST = 256


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


def sampled_loss(task: Task, raw: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
    """Return functions of `raw` with random gradients, whose second moment is the second derivative H of the loss.

    Of cross-entropy it is the loss of labels that the model itself gives, drawn by its probabilities (the true Fisher
    matrix; Martens 2020, section 5). Of another loss it is the product of `raw` with a root of H and normal noise.

    Raises:
        ConfigError: H is too large to be factored, or is that of no convex loss.
    """
    if type(task).loss is Classification.loss:
        labels = torch.multinomial(torch.softmax(raw.detach(), dim=-1), 1).squeeze(-1)
        return task.loss(raw, {**batch, "labels": labels})
    flat = raw.flatten(1)
    if flat.shape[1] > LARGEST:
        raise ConfigError(
            f"The model returns {flat.shape[1]} numbers an example, and the second derivative of the loss of "
            f"{type(task).__name__} is factored for at most {LARGEST}; set method.ekfac.make.empirical_fisher=true, "
            "which takes the gradients of the training loss itself."
        )
    noise = torch.randn_like(flat.detach()).unsqueeze(-1)
    return (flat * (_root(task, raw.detach(), batch) @ noise).squeeze(-1)).sum(dim=1)


def _root(task: Task, raw: Tensor, batch: Batch) -> Float[Tensor, "batch numbers numbers"]:
    def of_one(values: Tensor, example: dict[str, Tensor]) -> Tensor:
        return task.loss(values.unsqueeze(0), {name: value.unsqueeze(0) for name, value in example.items()}).squeeze(0)

    size = raw[0].numel()
    found = vmap(hessian(of_one))(raw, dict(batch)).reshape(len(raw), size, size)
    values, vectors = torch.linalg.eigh((found + found.mT) / 2)
    if (values.min() < -SAME * values.max()).item():
        raise ConfigError(
            f"The loss of {type(task).__name__} is not convex in what the model returns, so its second derivative is "
            "no covariance; set method.ekfac.make.empirical_fisher=true."
        )
    return vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
