"""One forward and backward pass that hands every layer's input and output gradient to a receiver.

Parameters need no gradient meanwhile, so the pass costs a forward pass and the gradients by activations. The forward
function of each module that a rule covers is replaced while the pass runs; the model itself is not changed.
"""

import contextlib
import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trakflow.errors import SketchError
from trakflow.sketches.contributions import Contribution
from trakflow.sketches.rules import Call, Rule, rule_for
from trakflow.sketches.rules.base import first_input
from trakflow.tasks.base import Batch, Task

# The dimension of a module's input that goes over examples; "shared" where all of it is the same for all of them.
Axis = Literal[0, 1, "shared"]


class Receiver(ABC):
    """Turns contributions and output gradients into something smaller."""

    @abstractmethod
    def hold(self, contribution: Contribution) -> Any:
        """Called in the forward pass: return what the backward pass will need of the contribution."""

    @abstractmethod
    def add(self, held: Any, output_gradient: Tensor) -> None:
        """Called in the backward pass; output gradients have the examples first."""


@dataclass(frozen=True)
class Covered:
    """A module whose parameters features are gradients by."""

    path: str
    module: nn.Module
    rule: Rule
    names: Mapping[str, str]


def covered_modules(model: nn.Module, parameters: Collection[str]) -> list[Covered]:
    """Find the modules that hold the given parameters, and their rules.

    Args:
        model: The model.
        parameters: Names as `model.named_parameters` gives them; tied ones have one name.

    Returns:
        Modules in the model's order; a tied parameter belongs to several.

    Raises:
        SketchError: No rule covers a module that holds one of them.
    """
    canonical = {parameter: name for name, parameter in model.named_parameters()}
    found = []
    for path, module in model.named_modules():
        own = {attribute: canonical[value] for attribute, value in module.named_parameters(recurse=False)}
        names = {attribute: name for attribute, name in own.items() if name in parameters}
        if names:
            found.append(Covered(path or "the model itself", module, _rule(path, module, names), names))
    return found


def _rule(path: str, module: nn.Module, names: Mapping[str, str]) -> Rule:
    rule = rule_for(module)
    uncovered = sorted(set(names) - rule.covers) if rule is not None else sorted(names)
    problem = rule.problem(module) if rule is not None else None
    if rule is not None and not uncovered and problem is None:
        return rule
    what = f"uses {problem}" if problem else f"holds parameters ({', '.join(uncovered)}) that no rule covers"
    kind = type(module)
    raise SketchError(
        f"Module {path or 'the model itself'} ({kind.__module__}.{kind.__qualname__}) {what}. Two ways out: another "
        "sketch, which takes explicit gradients and knows no modules (sketch=sjlt); or a rule of your own for this "
        "type (trakflow.sketches.rules.register_rule, see docs/sketches.md). Parameters that should not be "
        "differentiated can be left out by sketch.parameters."
    )


class Capture:
    """Runs a model on batches and hands its contributions to a receiver.

    Args:
        model: In evaluation mode.
        task: Defines the output.
        parameters: Names of the parameters that matter.

    Raises:
        SketchError: As `covered_modules`.
    """

    def __init__(self, model: nn.Module, task: Task, parameters: Collection[str]):
        self._model = model
        self._task = task
        self._covered = covered_modules(model, parameters)
        self._axes: dict[tuple[str, int], Axis] = {}

    def run(self, batch: Batch, size: int, receiver: Receiver) -> Tensor:
        """Run one batch forward and backward.

        Args:
            batch: The examples.
            size: How many.
            receiver: Gets every contribution.

        Returns:
            What the task's forward returned, detached.

        Raises:
            SketchError: The model's use of a module is not covered.
        """

        def tap(output: Tensor, contributions: Sequence[Contribution], axis: int) -> Tensor:
            if not contributions:
                return output
            if not output.requires_grad:
                # Where gradients begin. A copy, so that the model may go on in place.
                output = output.detach().requires_grad_().clone()
            held = [receiver.hold(contribution) for contribution in contributions]

            def receive(gradient: Tensor) -> None:
                with torch.no_grad():
                    for part in held:
                        receiver.add(part, gradient.movedim(axis, 0))

            output.register_hook(receive)
            return output

        with self._tapped(size, tap), torch.enable_grad():
            raw = self._task.forward(self._model, batch)
            total = self._task.output(raw, batch).sum()
            if not total.requires_grad:
                raise SketchError(
                    "The model's output does not depend on any module whose parameters are to be differentiated; "
                    "look at requires_grad and at sketch.parameters."
                )
            total.backward()
        return raw.detach()

    def learn_axes(self, batch: Batch) -> None:
        """Find where each module has its examples, from one example alone and from two together.

        Args:
            batch: At least two examples.

        Raises:
            SketchError: A module's input grows with the number of examples in no way that can be told apart.
        """
        shapes = [self._shapes({name: value[:count] for name, value in batch.items()}, count) for count in (1, 2)]
        if shapes[0].keys() != shapes[1].keys():
            raise SketchError(
                "The model calls other modules for two examples than for one, so its gradients cannot be taken apart "
                "by example; use sketch=sjlt."
            )
        self._axes = {key: _axis(key[0], shapes[0][key], shapes[1][key]) for key in shapes[0]}

    def _shapes(self, batch: Batch, size: int) -> dict[tuple[str, int], torch.Size]:
        found: dict[tuple[str, int], torch.Size] = {}
        with self._tapped(size, lambda output, contributions, axis: output, found), torch.no_grad():
            self._task.forward(self._model, batch)
        return found

    @contextlib.contextmanager
    def _tapped(self, size: int, tap: Any, shapes: dict[tuple[str, int], torch.Size] | None = None) -> Iterator[None]:
        """Replace the forward functions for a while."""
        calls: Counter[str] = Counter()

        def forward(part: Covered, original: Any, *args: Any, **kwargs: Any) -> Any:
            key = (part.path, calls[part.path])
            calls[part.path] += 1
            if shapes is not None:
                shapes[key] = first_input(args, kwargs).shape
                # While shapes are learned nothing is taken apart, so any size will do.
                return original(*args, **kwargs)
            axis = self._axes.get(key, 0) if size > 1 else 0
            if axis == "shared":
                args, kwargs = _repeated(args, kwargs, size)
            call = Call(part.module, part.path, part.names, size, original, 1 if axis == 1 else 0, tap)
            return part.rule.call(call, *args, **kwargs)

        with _without_gradients(self._model), _slow_attention(), contextlib.ExitStack() as stack:
            for part in self._covered:
                stack.enter_context(
                    _replaced_forward(part.module, functools.partial(forward, part, part.module.forward))
                )
            yield


def _axis(path: str, one: torch.Size, two: torch.Size) -> Axis:
    if one == two:
        return "shared"
    for axis in (0, 1):
        expected = list(one)
        if len(expected) > axis:
            expected[axis] *= 2
            if torch.Size(expected) == two:
                return axis
    raise SketchError(
        f"The input of {path} has shape {tuple(one)} for one example and {tuple(two)} for two, which does not say "
        "where the examples are; use sketch=sjlt."
    )


def _repeated(args: tuple[Any, ...], kwargs: dict[str, Any], size: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give every example its own copy of an input that all share, so that each has its own gradient."""
    inputs = first_input(args, kwargs)
    repeated = inputs.expand(size, *inputs.shape[1:]) if len(inputs) == 1 else inputs.expand(size, *inputs.shape)
    if args:
        return (repeated, *args[1:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): repeated}


@contextlib.contextmanager
def _replaced_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    # Through the dict: nn.Module's own attribute handling is for parameters and modules.
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


@contextlib.contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    # torch's fused encoder layers run where no parameter needs a gradient, and they call no module.
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
