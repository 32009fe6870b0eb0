"""Normalisations: y = w * x^ + b, where x^ is the normalised input.

So grad(w) is the sum of grad(y) * x^ over positions, and grad(b) that of grad(y).
"""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trakflow.sketches.contributions import Contribution, Elementwise, Kept, summed
from trakflow.sketches.rules.base import Call, Rule


class NormalizationRule(Rule):
    """What all normalisations share."""

    @abstractmethod
    def normalized(self, module: Any, inputs: Tensor) -> Tensor:
        """x^, without scale and shift."""

    @abstractmethod
    def kept_dimensions(self, module: Any, inputs: Tensor) -> list[int]:
        """Dimensions of the scale, counted from the end."""

    def scale_gradient(self, module: Any, gradient: Tensor, inputs: Tensor, batch: int) -> Float[Tensor, "batch size"]:
        """The gradient of the scale."""
        return summed(gradient * self.normalized(module, inputs), batch, self.kept_dimensions(module, inputs))

    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """Weight and bias."""
        batch, keep = call.batch, self.kept_dimensions(call.module, inputs)
        found: list[Contribution] = []
        if "weight" in call.names:
            kept = Kept(inputs, call.path)

            def scale(gradient: Tensor) -> Tensor:
                return self.scale_gradient(call.module, gradient, kept.get(), batch)

            found.append(Elementwise(call.names["weight"], scale))
        if "bias" in call.names:
            found.append(Elementwise(call.names["bias"], lambda gradient: summed(gradient, batch, keep)))
        return found


class LayerNormRule(NormalizationRule):
    """nn.LayerNorm."""

    def normalized(self, module: nn.LayerNorm | nn.RMSNorm, inputs: Tensor) -> Tensor:
        """Over the trailing dimensions of the scale."""
        return functional.layer_norm(inputs, list(module.normalized_shape), eps=float(module.eps or 0))

    def kept_dimensions(self, module: nn.LayerNorm | nn.RMSNorm, inputs: Tensor) -> list[int]:
        """The trailing ones."""
        return list(range(-len(module.normalized_shape), 0))


class RMSNormRule(LayerNormRule):
    """nn.RMSNorm."""

    covers = frozenset({"weight"})

    def normalized(self, module: Any, inputs: Tensor) -> Tensor:
        """By the root of the mean square."""
        return functional.rms_norm(inputs, module.normalized_shape, eps=module.eps)


class GroupNormRule(NormalizationRule):
    """nn.GroupNorm."""

    def normalized(self, module: nn.GroupNorm, inputs: Tensor) -> Tensor:
        """Over the channels of a group and all positions."""
        return functional.group_norm(inputs, module.num_groups, eps=module.eps)

    def kept_dimensions(self, module: nn.GroupNorm, inputs: Tensor) -> list[int]:
        """The channels, which follow the examples."""
        return [1 - inputs.ndim]


class BatchNormRule(NormalizationRule):
    """nn.BatchNorm1d, 2d and 3d in evaluation mode, where they are fixed affine maps."""

    def problem(self, module: nn.Module) -> str | None:
        """Without running statistics each example depends on the others."""
        running = getattr(module, "running_mean", None)
        return "no running statistics, so each example depends on the rest of its batch" if running is None else None

    def normalized(self, module: Any, inputs: Tensor) -> Tensor:
        """By the running statistics."""
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        return (inputs - module.running_mean.view(shape)) * _scale(module).view(shape)

    def scale_gradient(self, module: Any, gradient: Tensor, inputs: Tensor, batch: int) -> Tensor:
        """In fewer passes over memory: the positions of a channel are summed before they are scaled."""
        if inputs.ndim == 2:
            return super().scale_gradient(module, gradient, inputs, batch)
        centred = inputs.flatten(2) - module.running_mean.view(1, -1, 1)
        sums = torch.linalg.vecdot(gradient.flatten(2), centred) * _scale(module)
        return sums.unflatten(0, (batch, -1)).sum(dim=1)

    def kept_dimensions(self, module: Any, inputs: Tensor) -> list[int]:
        """The channels, which follow the examples."""
        return [1 - inputs.ndim]


def _scale(module: Any) -> Float[Tensor, " channels"]:
    return torch.rsqrt(module.running_var + module.eps)
