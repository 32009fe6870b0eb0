"""SGD with momentum, one model at a time: the reference that the stacked ensemble must agree with."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.optim.sgd import sgd

from trakflow.config.training import Training
from trakflow.progress import progress
from trakflow.seeds import derive_seed, generator
from trakflow.tasks.base import Task
from trakflow.tasks.running import floating_type, run_model

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


def select_rows(arrays: Arrays, rows: Int[Tensor, "..."]) -> dict[str, Tensor]:
    """Return the rows of every array: a batch, or a batch of each model where `rows` has a first axis of models."""
    return {
        name: array.index_select(0, rows.reshape(-1)).view(*rows.shape, *array.shape[1:])
        for name, array in arrays.items()
    }


class MomentumSGD:
    """SGD as `torch.optim.SGD` and `LambdaLR` do it: entry by entry, so stacked parameters train as separate ones.

    It calls torch's own update without the optimizer classes around it, which take longer than the update of a small
    model and import torch's compiler.

    Args:
        parameters: What to train.
        settings: Learning rate and schedule, momentum, weight decay.
        steps: Of the whole training, for the schedule.
    """

    def __init__(self, parameters: Sequence[Tensor], settings: Training, steps: int):
        self.parameters = parameters
        self.settings = settings
        self.steps = steps
        self.done = 0
        self._momenta: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Take one step; a parameter without a gradient stays as it is, and so does its momentum."""
        settings = self.settings
        updated = [
            _in_memory_order(parameter, gradient, self._momentum(position))
            for position, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True))
            if gradient is not None
        ]
        given = [gradient for _, gradient, _ in updated]
        sparse = any(gradient.is_sparse for gradient in given)
        sgd(
            [parameter for parameter, _, _ in updated],
            given,
            [momentum for _, _, momentum in updated],
            has_sparse_grad=sparse,
            foreach=False,
            # One pass over memory; it knows nothing of sparse and complex numbers.
            fused=not sparse and not any(gradient.is_complex() for gradient in given),
            lr=settings.learning_rate * learning_rate_factor(settings.schedule, self.done, self.steps),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self.done += 1

    def _momentum(self, position: int) -> Tensor | None:
        if not self.settings.momentum:
            return None
        # Made at the first gradient: until then a parameter may still change its layout.
        if position not in self._momenta:
            self._momenta[position] = torch.zeros_like(self.parameters[position])
        return self._momenta[position]


def same_layout(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one shape have their entries in the same order in memory."""
    return left.stride() == right.stride() or (left.is_contiguous() and right.is_contiguous())


def _in_memory_order(
    parameter: Tensor, gradient: Tensor, momentum: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return views whose axes are sorted by stride: the fused update would copy what is not contiguous."""
    if gradient.is_sparse:
        return parameter, gradient, momentum
    if not same_layout(parameter, gradient):
        gradient = torch.empty_like(parameter).copy_(gradient)
    if parameter.is_contiguous():
        return parameter, gradient, momentum
    order = sorted(range(parameter.ndim), key=parameter.stride, reverse=True)
    return parameter.permute(order), gradient.permute(order), None if momentum is None else momentum.permute(order)


def train_model(
    factory: Callable[[], nn.Module],
    task: Task,
    arrays: Arrays,
    indices: Int[np.ndarray, " chosen"],
    settings: Training,
    seed: int,
    last_epoch: int | None = None,
) -> nn.Module:
    """Train one model on the chosen examples.

    Args:
        factory: Makes an untrained model; called with torch's generator seeded.
        task: Gives the loss.
        arrays: The training set's tensors (n x ...).
        indices: Which examples to train on.
        settings: Epochs, batch size and optimizer.
        seed: Of initialisation and batch order.
        last_epoch: Stop after this one, its learning rate that of the whole run; None for the whole run.

    Returns:
        The trained model, in evaluation mode, on the device of the arrays.
    """
    device = next(iter(arrays.values())).device
    model = make_model(factory, derive_seed(seed, "init")).to(device).train()
    steps = settings.epochs * math.ceil(len(indices) / settings.batch_size)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = MomentumSGD(trained, settings, steps)
    dtype = floating_type(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "dropout"))
        for epoch in progress(range(settings.epochs if last_epoch is None else last_epoch), "train"):
            for chosen in batch_order(indices, settings.batch_size, seed, epoch):
                batch = select_rows(arrays, torch.from_numpy(chosen).to(device))
                task.loss(run_model(task, model, batch, dtype), batch).mean().backward()
                optimizer.step([parameter.grad for parameter in trained])
                model.zero_grad()
    return model.eval()
