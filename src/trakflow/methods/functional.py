"""What other libraries are given that take gradients of one example under ``torch.func``: f and Q as functions.

f and Q are those of the task, so that a library attributes the same output as every other method. The model is run by
``torch.func.functional_call`` with the library's own parameters.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from trakflow.errors import ConfigError, NumericalError, SketchError
from trakflow.methods.base import Planned, Trained
from trakflow.methods.gradients import one_example
from trakflow.seeds import derive_seed
from trakflow.sketches.memory import activation_bytes
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.tasks.base import Task
from trakflow.tasks.running import floating_type, run_model


@dataclass
class Functional:
    """f and Q of a task by parameters that the caller brings.

    Attributes:
        task: Of the checkpoint at work. A library holds one object for all checkpoints, so this is set for each.
        fields: Names of an example's tensors, in the order in which the caller has them. Targets may have others than
            training examples (labels of the one word that is asked about), so this is set for each of the two sets.
    """

    task: Task
    fields: tuple[str, ...]

    def output(self, model: nn.Module, parameters: Any, example: tuple[Tensor, ...]) -> Float[Tensor, ""]:
        """The output f of one example, whose tensors come without a batch dimension.

        Args:
            model: The model.
            parameters: As `functional_call` takes them.
            example: In the order of `fields`.
        """
        return self._of_one(self.task.output, model, parameters, example)

    def loss_gradient(self, model: nn.Module, parameters: Any, example: tuple[Tensor, ...]) -> Float[Tensor, ""]:
        """Q of one example; as `output`."""
        return self._of_one(self.task.loss_gradient, model, parameters, example)

    def loss_gradients(
        self, model: nn.Module, parameters: Any, examples: tuple[Tensor, ...]
    ) -> Float[Tensor, " batch"]:
        """Q of a batch of examples."""
        batch = dict(zip(self.fields, examples, strict=True))
        return self.task.loss_gradient(self._raw(model, parameters, batch), batch)

    def _of_one(self, function: Any, model: nn.Module, parameters: Any, example: tuple[Tensor, ...]) -> Tensor:
        batch = {name: value.unsqueeze(0) for name, value in zip(self.fields, example, strict=True)}
        return function(self._raw(model, parameters, batch), batch).squeeze(0)

    def _raw(self, model: nn.Module, parameters: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return run_model(self.task, partial(_call, model, parameters), batch, floating_type(model))


def _call(model: nn.Module, parameters: Any, *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, parameters, args, kwargs)


@dataclass(frozen=True)
class Sizes:
    """Which parameters a library differentiates by, and how many examples it is given at a time.

    Attributes:
        parameters: Their names.
        entries: Number of their entries.
        batch: Examples at a time.
    """

    parameters: tuple[str, ...]
    entries: int
    batch: int


def sizes(
    trained: Trained,
    k: int,
    ridge: float,
    patterns: list[str] | None,
    batch: int | None,
    name: str,
    examples: int | None = None,
) -> Sizes:
    """Return the sizes of a library's job, before it begins.

    A dense matrix is drawn anew for each batch, so that a batch is by default as large as the memory allows: up to five
    gradients of each example, and its activations, are held at once.

    Args:
        trained: One of the checkpoints.
        k: Number of features.
        ridge: What is added to the diagonal of the Gram matrix.
        patterns: Names of parameters, as `sketch.parameters`.
        batch: Examples at a time; None for as many as `memory_bytes` allows.
        name: Of the method, for messages.
        examples: How many there are; None for all that are given.

    Raises:
        ConfigError: Without a ridge the Gram matrix of that many features has no inverse.
    """
    found = differentiated_parameters(trained.model, patterns)
    entries = sum(value.numel() for value in found.values())
    n = examples or len(next(iter(trained.train.values())))
    if ridge == 0 and (k >= n or k > entries):
        raise ConfigError(
            f"Method {name} with k={k} and no ridge needs k to be smaller than the number of training examples ({n}) "
            f"and not larger than that of parameters ({entries}), or its Gram matrix has no inverse; set "
            f"method.{name}.make.k, or a ridge."
        )
    bytes_each = 4 * (5 * entries + k) + 4 * activation_bytes(trained.model, trained.task, one_example(trained))
    return Sizes(tuple(found), entries, batch or max(1, min(n, trained.memory_bytes // bytes_each)))


def check_functional(planned: Planned, k: int, ridge: float, patterns: list[str] | None, name: str) -> None:
    """Refuse, before anything is trained, what `sizes` refuses, and a model whose gradients a library cannot take.

    Args:
        planned: What the method will be given.
        k: As for `sizes`, like the two that follow.
        ridge: As above.
        patterns: As above.
        name: Of the method, for messages.

    Raises:
        ConfigError: As `sizes`.
        SketchError: The model cannot be run under ``torch.func.vmap``.
    """
    trained = planned.trained
    own = sizes(trained, k, ridge, patterns, None, name, planned.examples).parameters
    tensors = {**dict(trained.model.named_parameters()), **dict(trained.model.named_buffers())}
    tensors = {key: value.detach() for key, value in tensors.items()}
    constants = {key: value for key, value in tensors.items() if key not in own}
    functional = Functional(trained.task, tuple(trained.train))

    def output(parameters: dict[str, Tensor], *example: Tensor) -> Tensor:
        return functional.output(trained.model, {**parameters, **constants}, example)

    gradients = vmap(grad(output), in_dims=(None, *[0] * len(functional.fields)), randomness="different")
    with library(name):
        gradients({key: tensors[key] for key in own}, *trained.train.values())


def batches(arrays: Mapping[str, Tensor], size: int) -> Iterator[list[Tensor]]:
    """Yield the examples in order, as lists of tensors with at most `size` rows, in the order of the arrays."""
    for start in range(0, len(next(iter(arrays.values()))), size):
        yield [array[start : start + size] for array in arrays.values()]


def library_seed(trained: Trained, name: str) -> int:
    """Return a seed of 31 bits: the libraries add small numbers to it, and their kernels take 32."""
    return derive_seed(trained.seed, name) % 2**31


@contextlib.contextmanager
def library(name: str) -> Iterator[None]:
    """Run a library: what it does to the root logger is undone, its bars stay at a terminal, its errors are told.

    Args:
        name: Of the method.

    Raises:
        NumericalError: A Gram matrix has no inverse.
        SketchError: The model cannot be run under ``torch.func.vmap``.
    """
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        with contextlib.redirect_stderr(sys.stderr if sys.stderr.isatty() else _WithoutBars(sys.stderr)):
            yield
    except torch.linalg.LinAlgError as error:
        raise NumericalError(
            f"{name} inverts a Gram matrix that is singular: {str(error).splitlines()[0]} Give it a smaller k or a "
            f"ridge (method.{name}.make)."
        ) from error
    except RuntimeError as error:
        if "vmap" not in str(error) and "functorch" not in str(error):
            raise
        raise SketchError(
            f"{name} takes gradients under torch.func.vmap, where the model fails: "
            f"{' '.join(str(error).split())[:200]}. Leave {name} out of `methods`, or change the model."
        ) from error
    finally:
        root.handlers[:] = handlers


class _WithoutBars(io.TextIOBase):
    """Passes on what is written, but for lines that a bar draws over and over."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        if "\r" not in text and text.strip():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
