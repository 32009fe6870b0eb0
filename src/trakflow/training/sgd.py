"""SGD with momentum, one model at a time: the reference that the stacked ensemble must agree with."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from trakflow.config.schema import Training
from trakflow.progress import progress
from trakflow.seeds import derive_seed, generator
from trakflow.tasks.base import Task

Arrays = Mapping[str, Tensor]


def make_model(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call a model factory with torch's generator seeded, leaving the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def batch_order(
    indices: Int[np.ndarray, " chosen"], batch_size: int, seed: int, epoch: int
) -> list[Int[np.ndarray, " batch"]]:
    """Return the batches of one epoch: a random permutation of the indices, cut; the last may be smaller."""
    order = generator(seed, "order", epoch).permutation(indices)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Return the multiple of the base learning rate at a step of `steps`."""
    if schedule == "constant":
        return 1.0
    done = step / steps
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def make_optimizer(
    parameters: list[Tensor], settings: Training, steps: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LambdaLR]:
    """Return the optimizer and its schedule; both act entry by entry, so stacked parameters train as separate ones."""
    optimizer = torch.optim.SGD(
        parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(settings.schedule, step, steps)
    )


def train_model(
    factory: Callable[[], nn.Module],
    task: Task,
    arrays: Arrays,
    indices: Int[np.ndarray, " chosen"],
    settings: Training,
    seed: int,
) -> nn.Module:
    """Train one model on the chosen examples.

    Args:
        factory: Makes an untrained model; called with torch's generator seeded.
        task: Gives the loss.
        arrays: The training set's tensors (n x ...).
        indices: Which examples to train on.
        settings: Epochs, batch size and optimizer.
        seed: Of initialisation and batch order.

    Returns:
        The trained model, in evaluation mode, on the device of the arrays.
    """
    device = next(iter(arrays.values())).device
    model = make_model(factory, derive_seed(seed, "init")).to(device).train()
    steps = settings.epochs * math.ceil(len(indices) / settings.batch_size)
    optimizer, schedule = make_optimizer(list(model.parameters()), settings, steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "dropout"))
        for epoch in progress(range(settings.epochs), "train"):
            for chosen in batch_order(indices, settings.batch_size, seed, epoch):
                rows = torch.from_numpy(chosen).to(device)
                batch = {name: array[rows] for name, array in arrays.items()}
                optimizer.zero_grad()
                task.loss(task.forward(partial(model), batch), batch).mean().backward()
                optimizer.step()
                schedule.step()
    return model.eval()
