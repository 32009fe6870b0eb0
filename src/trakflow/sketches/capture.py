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
from trakflow.tasks.running import floating_type, run_model

# The dimension of a module's input that goes over examples; "shared" where all of it is the same for all of them.
Axis = Literal[0, 1, "shared"]


@dataclass(frozen=True)
class Layout:
    """Where a module's input has its examples, and its shape for a single one."""

    axis: Axis
    one: torch.Size

    def check(self, path: str, shape: torch.Size, size: int) -> None:
        """Refuse an input whose size is not that of so many examples.

        Raises:
            SketchError: Examples have different numbers of rows, so that it cannot be known whose they are.
        """
        if self.axis != "shared" and shape[self.axis] != size * self.one[self.axis]:
            raise SketchError(
                f"The input of {path} has shape {tuple(shape)} for {size} examples and {tuple(self.one)} for one "
                "alone: examples with different numbers of rows cannot be told apart. Pad them to one length, or use "
                "sketch=sjlt."
            )


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
        called = {canonical[value] for value in _called_parameters(module)}
        if names or not called.isdisjoint(parameters):
            found.append(Covered(path or "the model itself", module, _rule(path, module, names), names))
    return found


def _called_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of submodules that only the module's rule calls."""
    rule = rule_for(module)
    return [value for name in (rule.calls if rule else ()) for value in module.get_submodule(name).parameters()]


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
        self._dtype = floating_type(model)
        self._covered = covered_modules(model, parameters)
        self._layouts: dict[tuple[str, int], Layout] = {}

    def run(self, batch: Batch, size: int, receiver: Receiver) -> Tensor:
        """Run one batch forward and backward.

        Args:
            batch: The examples.
            size: How many.
            receiver: Gets every contribution.

        Returns:
            What `run_model` returned, detached.

        Raises:
            SketchError: The model's use of a module is not covered.
        """

        def tap(output: Tensor, contributions: Sequence[Contribution], axis: int) -> Tensor:
            # Under no_grad the model itself has no gradient either.
            if not contributions or not torch.is_grad_enabled():
                return output
            if not output.requires_grad:
                # Where gradients begin. A copy, so that the model may go on in place.
                output = output.detach().requires_grad_().clone()
            # The model's own autocast is not meant for what receivers compute.
            with torch.autocast(output.device.type, enabled=False), torch.no_grad():
                held = [receiver.hold(contribution) for contribution in contributions]

            def receive(gradient: Tensor) -> None:
                with torch.no_grad():
                    for part in held:
                        receiver.add(part, gradient.movedim(axis, 0))
                # As autograd does: freed before the backward pass goes on to earlier modules.
                held.clear()

            output.register_hook(receive)
            return output

        with self._tapped(size, tap), torch.enable_grad():
            raw = run_model(self._task, self._model, batch, self._dtype)
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
        shapes = [self._shapes({name: value[:count] for name, value in batch.items()}) for count in (1, 2)]
        if shapes[0].keys() != shapes[1].keys():
            raise SketchError(
                "The model calls other modules for two examples than for one, so its gradients cannot be taken apart "
                "by example; use sketch=sjlt."
            )
        self._layouts = {key: Layout(_axis(key[0], shape, shapes[1][key]), shape) for key, shape in shapes[0].items()}

    @property
    def depends_on_shape(self) -> bool:
        """Whether a module was seen with several rows for one example, whose number may be another in other batches."""
        return any(layout.axis != "shared" and layout.one[layout.axis] != 1 for layout in self._layouts.values())

    def _shapes(self, batch: Batch) -> dict[tuple[str, int], torch.Size]:
        """The shape of the first input of each call of each covered module."""
        found: dict[tuple[str, int], torch.Size] = {}

        def note(part: Covered, number: int, original: Any, *args: Any, **kwargs: Any) -> Any:
            found[part.path, number] = first_input(args, kwargs).shape
            return original(*args, **kwargs)

        with self._replaced(note), torch.no_grad():
            run_model(self._task, self._model, batch, self._dtype)
        return found

    def _tapped(self, size: int, tap: Any) -> contextlib.AbstractContextManager[None]:
        """Let the rules call the modules for a while."""

        def forward(part: Covered, number: int, original: Any, *args: Any, **kwargs: Any) -> Any:
            layout = self._layouts.get((part.path, number)) if size > 1 else None
            axis: Axis = 0 if layout is None else layout.axis
            if layout is not None:
                layout.check(part.path, first_input(args, kwargs).shape, size)
            if axis == "shared":
                args, kwargs = _repeated(args, kwargs, size)
            call = Call(part.module, part.path, part.names, size, original, 1 if axis == 1 else 0, tap)
            return part.rule.call(call, *args, **kwargs)

        return self._replaced(forward)

    @contextlib.contextmanager
    def _replaced(self, forward: Any) -> Iterator[None]:
        """Replace the forward functions: `forward` gets the module, the number of the call, and the original."""
        calls: Counter[str] = Counter()

        def numbered(part: Covered, original: Any, *args: Any, **kwargs: Any) -> Any:
            calls[part.path] += 1
            return forward(part, calls[part.path] - 1, original, *args, **kwargs)

        with _without_gradients(self._model), _slow_attention(), contextlib.ExitStack() as stack:
            for part in self._covered:
                replacement = functools.partial(numbered, part, part.module.forward)
                stack.enter_context(_replaced_forward(part.module, replacement))
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
    leading_one = inputs.ndim > 1 and len(inputs) == 1
    repeated = inputs.expand(size, *inputs.shape[1:]) if leading_one else inputs.expand(size, *inputs.shape)
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
