"""Many small models trained as one: parameters stacked, and ``vmap`` over models and their own batches."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trakflow.config.training import Training
from trakflow.errors import ConfigError
from trakflow.progress import progress
from trakflow.seeds import derive_seed
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.preparation import prepared
from trakflow.tasks.running import floating_type, run_model
from trakflow.training.sgd import Arrays, MomentumSGD, batch_order, make_model, same_layout, select_rows, train_model

State = dict[str, Tensor]

# How much of a group of models a processor's last cache is taken to hold, and the fewest that are worth a step's fixed
# cost. No weight depends on either, but for models that draw random numbers as they train.
CACHE_BYTES = 32 * 2**20
SMALLEST_GROUP = 8


def train_ensemble(
    factory: Callable[[], nn.Module],
    task: Task,
    arrays: Arrays,
    masks: Bool[np.ndarray, "models n"],
    settings: Training,
    seeds: Sequence[int],
) -> State:
    """Train one model for each row of `masks`, together or, with `training.ensemble=false`, one after another.

    Both ways give the same weights up to rounding, unless the model draws random numbers while it trains (dropout).

    Args:
        factory: Makes an untrained model.
        task: Gives the loss.
        arrays: The training set's tensors (n x ...).
        masks: Which examples each model sees; rows of equal sums.
        settings: As for `train_model`.
        seeds: One a model.

    Returns:
        The models' state dicts, stacked along a new first axis.

    Raises:
        ConfigError: The model cannot be stacked.
    """
    indices = [np.flatnonzero(mask) for mask in masks]
    if not settings.ensemble:
        models = [
            train_model(factory, task, arrays, chosen, settings, seed)
            for chosen, seed in zip(indices, seeds, strict=True)
        ]
        return {name: torch.stack([model.state_dict()[name] for model in models]) for name in models[0].state_dict()}
    try:
        size = _group_size(len(seeds), make_model(factory, derive_seed(seeds[0], "init")), arrays, settings)
        groups = np.array_split(np.arange(len(seeds)), math.ceil(len(seeds) / size))
        states = [
            _train_stacked(
                factory, task, arrays, [indices[row] for row in group], settings, [seeds[row] for row in group]
            )
            for group in groups
        ]
    except RuntimeError as error:
        if "vmap" not in str(error) and "functorch" not in str(error):
            raise
        raise ConfigError(
            f"This model cannot be trained as a stacked ensemble ({str(error).splitlines()[0]}); set "
            "training.ensemble=false to train the models one after another."
        ) from error
    return {name: torch.cat([state[name] for state in states]).contiguous() for name in states[0]}


def _group_size(count: int, model: nn.Module, arrays: Arrays, settings: Training) -> int:
    """Return how many of the models to train at once: a step has a fixed cost, but the cache should hold them."""
    if next(iter(arrays.values())).device.type != "cpu":
        return count
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    batch = settings.batch_size * sum(array[:1].nbytes for array in arrays.values())
    # A parameter comes with its gradient and its momentum.
    return min(count, max(SMALLEST_GROUP, CACHE_BYTES // (3 * trained + batch)))


def _train_stacked(
    factory: Callable[[], nn.Module],
    task: Task,
    arrays: Arrays,
    indices: Sequence[np.ndarray],
    settings: Training,
    seeds: Sequence[int],
) -> State:
    device = next(iter(arrays.values())).device
    models = [make_model(factory, derive_seed(seed, "init")).to(device).train() for seed in seeds]
    shared = _in_common(models)
    parameters, buffers = (
        {name: _stacked(models, name) for name, _ in named if name not in shared}
        for named in (models[0].named_parameters(), models[0].named_buffers())
    )
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    steps = settings.epochs * math.ceil(len(indices[0]) / settings.batch_size)
    optimizer = MomentumSGD(trained, settings, steps)

    dtype = floating_type(models[0])

    def loss_of_one(parameters: State, buffers: State, batch: Batch) -> Tensor:
        raw = run_model(task, _caller(models[0], {**shared, **parameters, **buffers}), batch, dtype)
        return task.loss(raw, batch).mean()

    losses_of_all = vmap(loss_of_one, randomness="different")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seeds[0], "dropout"))
        for epoch in progress(range(settings.epochs), f"train {len(seeds)} models"):
            order = np.stack(
                [
                    np.concatenate(batch_order(chosen, settings.batch_size, seed, epoch))
                    for chosen, seed in zip(indices, seeds, strict=True)
                ]
            )
            for rows in torch.from_numpy(order).to(device).split(settings.batch_size, dim=1):
                losses = losses_of_all(parameters, buffers, select_rows(arrays, rows))
                # The gradient of the sum by one model's parameters is that of its own loss.
                gradients = torch.autograd.grad(losses, trained, torch.ones_like(losses), allow_unused=True)
                if optimizer.done == 0:
                    _lay_out_as(trained, gradients)
                optimizer.step(gradients)
    everything = {name: value.expand(len(models), *value.shape) for name, value in shared.items()}
    everything |= {**parameters, **buffers}
    saved = models[0].state_dict().keys()
    return {name: value.detach() for name, value in everything.items() if name in saved}


def _stacked(models: Sequence[nn.Module], name: str) -> Tensor:
    tensors = [dict((*model.named_parameters(), *model.named_buffers()))[name] for model in models]
    return torch.stack(tensors).detach().requires_grad_(tensors[0].requires_grad)


def _in_common(models: Sequence[nn.Module]) -> State:
    """Return what is not trained and is the same memory in all models, such as frozen embeddings."""
    states = [dict((*model.named_parameters(), *model.named_buffers())) for model in models]
    return {
        name: value
        for name, value in states[0].items()
        if len(states) > 1
        and not value.requires_grad
        and all(state[name].data_ptr() == value.data_ptr() for state in states)
    }


def _lay_out_as(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Give parameters the memory layout in which their gradients come, or every step would transpose the gradients."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and not same_layout(parameter, gradient):
            parameter.data = torch.empty_like(gradient).copy_(parameter.data)


def ensemble_outputs(
    factory: Callable[[], nn.Module],
    task: Task,
    state: State,
    arrays: Arrays,
    batch_size: int,
    references: Arrays | None = None,
) -> Float[Tensor, "models targets"]:
    """Return the task's output of every stacked model at every example.

    Args:
        factory: Makes a model of the architecture.
        task: Defines the output.
        state: Stacked state dicts, as `train_ensemble` returns.
        arrays: The examples' tensors (targets x ...).
        batch_size: Examples at a time.
        references: The examples that the task compares with, if it does; each model embeds them itself.

    Returns:
        Outputs, float32.
    """
    return _of_each_model(
        lambda own, raw, batch: own.output(raw, batch).float(), factory, task, state, arrays, batch_size, references
    )


def ensemble_predictions(
    factory: Callable[[], nn.Module],
    task: Task,
    state: State,
    arrays: Arrays,
    batch_size: int,
    references: Arrays | None = None,
) -> Int[Tensor, "models targets"]:
    """Return the label that every stacked model predicts for every example; arguments as for `ensemble_outputs`.

    Raises:
        ConfigError: The task predicts no label.
    """
    return _of_each_model(
        lambda own, raw, batch: own.predicted(raw), factory, task, state, arrays, batch_size, references
    )


def _of_each_model(
    read: Callable[[Task, Any, Batch], Tensor],
    factory: Callable[[], nn.Module],
    task: Task,
    state: State,
    arrays: Arrays,
    batch_size: int,
    references: Arrays | None,
) -> Tensor:
    count = len(next(iter(arrays.values())))
    device = next(iter(arrays.values())).device
    model = make_model(factory, 0).to(device).eval()
    dtype = floating_type(model)
    found = []
    for number in progress(range(len(next(iter(state.values())))), "outputs"):
        # Not strict: stacking keeps one name of tied weights, and buffers that a state dict would leave out.
        model.load_state_dict({name: value[number] for name, value in state.items()}, strict=False)
        own = prepared(task, model, references)
        parts = []
        with torch.no_grad():
            for start in range(0, count, batch_size):
                batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
                parts.append(read(own, run_model(own, model, batch, dtype), batch))
        found.append(torch.cat(parts))
    return torch.stack(found)


def _caller(model: nn.Module, state: State) -> Callable[..., Any]:
    return partial(_call, model, state)


def _call(model: nn.Module, state: State, *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, state, args, kwargs)
