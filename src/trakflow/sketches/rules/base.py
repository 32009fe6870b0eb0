"""The contract of a rule."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trakflow.sketches.contributions import Contribution

# Takes an output, its contributions and the dimension that goes over examples; returns the output to go on with.
Tap = Callable[[Tensor, Sequence[Contribution], int], Tensor]


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        module: The module.
        path: Its name in the model.
        names: Names in the model of those of its parameters that features are gradients by, by attribute.
        batch: Number of examples.
        forward: The module's own forward function.
        axis: The dimension of its first input that goes over examples.
        tap: To be called on the output.
    """

    module: nn.Module
    path: str
    names: Mapping[str, str]
    batch: int
    forward: Callable[..., Any]
    axis: int
    tap: Tap


class Rule(ABC):
    """Says what the gradients of a module type's parameters are made of.

    Attributes:
        covers: The parameters, by attribute, that it knows of.
        calls: Submodules, by attribute, that only the rule calls: the type's own forward takes their parameters.
    """

    covers: frozenset[str] = frozenset({"weight", "bias"})
    calls: tuple[str, ...] = ()

    def problem(self, module: nn.Module) -> str | None:
        """Say what setting of the module the rule does not cover, if there is one."""
        return None

    def call(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        """Run the module and tap its output; by default for a module with one input and one output."""
        inputs = first_input(args, kwargs)
        output = call.forward(*args, **kwargs)
        return call.tap(output, self.contributions(call, inputs.movedim(call.axis, 0)), call.axis)

    @abstractmethod
    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """Return the contributions to those parameters that `call.names` asks for.

        Args:
            call: The call.
            inputs: The module's input, examples first; where its first dimension is a multiple of the batch, each
                example has several rows in a row.
        """


def first_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the first argument, however it was passed."""
    return args[0] if args else next(iter(kwargs.values()))
