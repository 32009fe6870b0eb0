"""Fully connected layers: nn.Linear, and transformers' Conv1D, which stores its weight transposed."""

from torch import Tensor, nn

from trakflow.sketches.contributions import Contribution, Elementwise, Kept, Outer, summed
from trakflow.sketches.rules.base import Call, Rule


class LinearRule(Rule):
    """y = x W^T + b: the gradient of W is the sum over positions of grad(y) x x, that of b the sum of grad(y)."""

    transposed = False

    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """Weight and bias."""
        return linear_contributions(call, inputs, {"weight": 0, "bias": 0}, self.transposed)


def linear_contributions(
    call: Call, inputs: Tensor, first_rows: dict[str, int], transposed: bool = False
) -> list[Contribution]:
    """Return the contributions of one linear map.

    Args:
        call: Names the parameters.
        inputs: (rows x ... x features), examples first.
        first_rows: The two attributes, weight first, and where this map begins in each.
        transposed: Whether the weight is stored (input x output).
    """
    (weight, weight_row), (bias, bias_row) = first_rows.items()
    found: list[Contribution] = []
    if weight in call.names:
        arranged = inputs.reshape(call.batch, -1, inputs.shape[-1])
        positional = inputs.ndim > 2 or arranged.shape[1] > 1
        found.append(Outer(call.names[weight], Kept(arranged, call.path), positional, weight_row, transposed))
    if bias in call.names:
        batch = call.batch
        found.append(Elementwise(call.names[bias], lambda gradient: summed(gradient, batch, [-1]), bias_row))
    return found


class TransposedLinearRule(LinearRule):
    """y = x W + b."""

    transposed = True

    @classmethod
    def for_transformers(cls, module: nn.Module) -> "TransposedLinearRule | None":
        """Return the rule for transformers' Conv1D, found by its name so that transformers need not be installed."""
        kind = type(module)
        return cls() if (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D") else None
