"""Many small models trained as one: parameters stacked, and ``vmap`` over models and their own batches."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from trakflow.config.schema import Training
from trakflow.errors import ConfigError
from trakflow.progress import progress
from trakflow.seeds import derive_seed
from trakflow.tasks.base import Batch, Task
from trakflow.training.sgd import Arrays, batch_order, make_model, make_optimizer, train_model

State = dict[str, Tensor]


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
        return _train_stacked(factory, task, arrays, indices, settings, seeds)
    except RuntimeError as error:
        if "vmap" not in str(error) and "functorch" not in str(error):
            raise
        raise ConfigError(
            f"This model cannot be trained as a stacked ensemble ({str(error).splitlines()[0]}); set "
            "training.ensemble=false to train the models one after another."
        ) from error


def _train_stacked(
    factory: Callable[[], nn.Module],
    task: Task,
    arrays: Arrays,
    indices: list[np.ndarray],
    settings: Training,
    seeds: Sequence[int],
) -> State:
    device = next(iter(arrays.values())).device
    models = [make_model(factory, derive_seed(seed, "init")).to(device).train() for seed in seeds]
    parameters, buffers = stack_module_state(models)
    steps = settings.epochs * math.ceil(len(indices[0]) / settings.batch_size)
    optimizer, schedule = make_optimizer(list(parameters.values()), settings, steps)

    def loss_of_one(parameters: State, buffers: State, batch: Batch) -> Tensor:
        return task.loss(task.forward(_caller(models[0], {**parameters, **buffers}), batch), batch).mean()

    losses = vmap(loss_of_one, randomness="different")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seeds[0], "dropout"))
        for epoch in progress(range(settings.epochs), f"train {len(seeds)} models"):
            orders = [
                batch_order(chosen, settings.batch_size, seed, epoch)
                for chosen, seed in zip(indices, seeds, strict=True)
            ]
            for chosen in zip(*orders, strict=True):
                rows = torch.from_numpy(np.stack(chosen)).to(device)
                batch = {name: array[rows] for name, array in arrays.items()}
                optimizer.zero_grad()
                # The gradient of the sum by one model's parameters is that of its own loss.
                losses(parameters, buffers, batch).sum().backward()
                optimizer.step()
                schedule.step()
    return {name: value.detach() for name, value in {**parameters, **buffers}.items()}


def ensemble_outputs(
    factory: Callable[[], nn.Module], task: Task, state: State, arrays: Arrays, batch_size: int
) -> Float[Tensor, "models targets"]:
    """Return the task's output of every stacked model at every example.

    Args:
        factory: Makes a model of the architecture.
        task: Defines the output.
        state: Stacked state dicts, as `train_ensemble` returns.
        arrays: The examples' tensors (targets x ...).
        batch_size: Examples at a time.

    Returns:
        Outputs, float32.
    """
    count = len(next(iter(arrays.values())))
    device = next(iter(arrays.values())).device
    model = make_model(factory, 0).to(device).eval()
    outputs = []
    for number in progress(range(len(next(iter(state.values())))), "outputs"):
        # Not strict: stacking keeps one name of tied weights, and buffers that a state dict would leave out.
        model.load_state_dict({name: value[number] for name, value in state.items()}, strict=False)
        parts = []
        with torch.no_grad():
            for start in range(0, count, batch_size):
                batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
                parts.append(task.output(task.forward(model, batch), batch).float())
        outputs.append(torch.cat(parts))
    return torch.stack(outputs)


def _caller(model: nn.Module, state: State) -> Callable[..., Any]:
    return partial(_call, model, state)


def _call(model: nn.Module, state: State, *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, state, args, kwargs)
