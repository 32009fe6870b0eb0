"""Tasks written for the paper's own library: `get_output` and `get_out_to_loss_grad`, run as one of our tasks.

Such a task computes f of one example, and calls the model itself by ``torch.func.functional_call(model, (weights,
buffers), ...)``. Here it is mapped over a batch, and the model that it is given is a stand-in without parameters that
takes the inputs of all examples together to the real one. So the real model runs once, on a batch, and every sketch
works, those with hooks on its layers among them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Model, Task


class AbstractModelOutput(ABC):
    """The base class of tasks in the form of the paper's library; subclass `trakflow.tasks.base.Task` for new ones."""

    @abstractmethod
    def get_output(self, model: nn.Module, weights: Any, buffers: Any, *example: Tensor) -> Tensor:
        """Return f(z; theta), a scalar, of one example, whose tensors come without a batch dimension."""

    @abstractmethod
    def get_out_to_loss_grad(self, model: nn.Module, weights: Any, buffers: Any, batch: Any) -> Tensor:
        """Return Q of each example of a batch (batch) or (batch x 1)."""


def is_model_output(task: object) -> bool:
    """Whether a task has the two methods, whatever it is derived from."""
    return all(callable(getattr(task, name, None)) for name in ("get_output", "get_out_to_loss_grad"))


class ModelOutputTask(Task):
    """Runs such a task as one of ours; it has no curvature W.

    Args:
        task: Has `get_output` and `get_out_to_loss_grad`.
    """

    def __init__(self, task: Any):
        self.task = task

    def forward(self, model: Model, batch: Batch) -> Tensor:
        """Return f and Q of each example (batch x 2)."""
        examples = tuple(batch.values())
        output = _per_example(self.task.get_output, model, examples)
        with torch.no_grad():
            weight = self.task.get_out_to_loss_grad(_StandIn(model), {}, {}, examples)
        if weight.numel() != len(output):
            raise ConfigError(
                f"{_name(self.task)}.get_out_to_loss_grad returned shape {tuple(weight.shape)} for {len(output)} "
                "examples; it must return one number an example."
            )
        return torch.stack([output, weight.reshape(-1).to(output.dtype)], dim=1)

    def output(self, raw: Tensor, batch: Batch) -> Tensor:
        """f, as `get_output` returned it."""
        return raw[:, 0]

    def loss_gradient(self, raw: Tensor, batch: Batch) -> Tensor:
        """Q, as `get_out_to_loss_grad` returned it."""
        return raw[:, 1].float()


def _name(task: object) -> str:
    return type(task).__name__


def _per_example(get_output: Callable[..., Tensor], model: Model, examples: tuple[Tensor, ...]) -> Tensor:
    if len(examples[0]) == 1:
        # Without a mapping of our own: sketches that map over examples do so with batches of one.
        output = get_output(_StandIn(_alone(model)), {}, {}, *(tensor[0] for tensor in examples))
        _require_scalar(output)
        return output.reshape(1)
    together = _Together(model)

    def of_one(*example: Tensor) -> Tensor:
        output = get_output(_StandIn(together), {}, {}, *example)
        _require_scalar(output)
        return output.reshape(())

    return vmap(of_one, randomness="error")(*examples)


def _require_scalar(output: Tensor) -> None:
    if output.numel() != 1:
        raise ConfigError(
            f"get_output returned shape {tuple(output.shape)}; it must return one number for one example."
        )


class _StandIn(nn.Module):
    """A module without parameters that passes its inputs on."""

    def __init__(self, call: Callable[..., Any]):
        super().__init__()
        # In a tuple: a module that is set as an attribute would become a submodule.
        self._call = (call,)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the real model returns."""
        return self._call[0](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            raise ConfigError(
                f"The task reads model.{name}. It may only call the model, as by torch.func."
                "functional_call(model, (weights, buffers), ...): its batch is computed together. Write the task as a "
                "trakflow.tasks.base.Task, whose `forward` may use the model as it likes."
            ) from error


class _Together:
    """Calls a model once for all examples that are mapped over, each of which hands it a batch of one."""

    def __init__(self, model: Model):
        self._model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        outputs: list[Any] = []

        def call(*tensors: Tensor) -> tuple[Tensor, ...]:
            given = iter(tensors)
            filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            positional, named = tree_unflatten(filled, structure)
            returned, shape = tree_flatten(self._model(*positional, **named))
            outputs[:] = [shape, [isinstance(leaf, Tensor) for leaf in returned], returned]
            return tuple(leaf for leaf in returned if isinstance(leaf, Tensor))

        found = iter(_call_together(call, [leaf for leaf in leaves if isinstance(leaf, Tensor)]))
        shape, is_tensor, returned = outputs
        return tree_unflatten(
            [next(found) if tensor else leaf for tensor, leaf in zip(is_tensor, returned, strict=True)], shape
        )


def _call_together(call: Callable[..., tuple[Tensor, ...]], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    class Call(torch.autograd.Function):
        @staticmethod
        def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
            return call(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> Any:
            flat = [_as_batch(value, dim, info.batch_size) for value, dim in zip(inputs, in_dims, strict=True)]
            found = tuple(value.unflatten(0, (info.batch_size, 1)) for value in call(*flat))
            return found, (0,) * len(found)

    return Call.apply(*tensors)


def _as_batch(value: Tensor, dim: int | None, size: int) -> Tensor:
    """Make of each example's batch of one the row of a batch."""
    if dim is None:
        value, dim = value.expand(size, *value.shape), 0
    value = value.movedim(dim, 0)
    _require_batch_of_one(value.shape[1:])
    return value.flatten(0, 1)


def _alone(model: Model) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        for leaf in tree_flatten((args, kwargs))[0]:
            if isinstance(leaf, Tensor):
                _require_batch_of_one(leaf.shape)
        return model(*args, **kwargs)

    return call


def _require_batch_of_one(shape: torch.Size) -> None:
    if not shape or shape[0] != 1:
        raise ConfigError(
            f"The task's get_output calls the model on a tensor of shape {tuple(shape)}; it must hand it a batch of "
            "one example, as by image.unsqueeze(0)."
        )
