"""Per-example gradients multiplied out from contributions: the check of every rule on the model at hand."""

from collections.abc import Mapping
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.sketches.capture import Receiver
from trakflow.sketches.contributions import Contribution, Elementwise, Lookup, Outer, Patches


class ExplicitGradients(Receiver):
    """A receiver that builds each example's whole gradient.

    Args:
        shapes: Of the parameters.
        batch: Number of examples.
        dtype: Of the gradients.
        device: Where they are.
    """

    def __init__(self, shapes: Mapping[str, torch.Size], batch: int, dtype: torch.dtype, device: torch.device):
        self.gradients = {
            name: torch.zeros(batch, *(shape or (1,)), dtype=dtype, device=device) for name, shape in shapes.items()
        }

    def hold(self, contribution: Contribution) -> Contribution:
        """Keep it."""
        return contribution

    def add(self, held: Contribution, output_gradient: Tensor) -> None:
        """Multiply it out."""
        total = self.gradients[held.parameter]
        gradient, first_row = multiplied_out(held, output_gradient, total.shape[1:])
        total[:, first_row : first_row + gradient.shape[1]] += gradient


@singledispatch
def multiplied_out(
    contribution: Contribution, output_gradient: Tensor, shape: torch.Size
) -> tuple[Float[Tensor, "batch ..."], int]:
    """Return the gradient of some leading rows of a parameter, and the first of them."""
    raise TypeError(type(contribution))


@multiplied_out.register
def _(contribution: Outer, output_gradient: Tensor, shape: torch.Size) -> tuple[Tensor, int]:
    outputs, inputs = contribution.outputs(output_gradient), contribution.inputs.get()
    # Under autocast the two differ.
    common = torch.promote_types(outputs.dtype, inputs.dtype)
    outputs, inputs = outputs.to(common), inputs.to(common)
    rows, columns = (inputs, outputs) if contribution.transposed else (outputs, inputs)
    return torch.einsum("bpr,bpc->brc", rows, columns).unflatten(-1, shape[1:]), contribution.first_row


@multiplied_out.register
def _(contribution: Patches, output_gradient: Tensor, shape: torch.Size) -> tuple[Tensor, int]:
    inputs, batch = contribution.inputs.get(), contribution.batch
    weight = output_gradient.new_empty(shape)
    gradients = [
        contribution.window.weight_gradient(gradient, own, weight)
        for gradient, own in zip(output_gradient.chunk(batch), inputs.chunk(batch), strict=True)
    ]
    return torch.stack(gradients), 0


@multiplied_out.register
def _(contribution: Lookup, output_gradient: Tensor, shape: torch.Size) -> tuple[Tensor, int]:
    gradient = contribution.outputs(output_gradient)
    total = gradient.new_zeros(len(gradient), *shape)
    index = contribution.indices.get().unsqueeze(-1).expand_as(gradient)
    return total.scatter_add_(1, index, gradient), 0


@multiplied_out.register
def _(contribution: Elementwise, output_gradient: Tensor, shape: torch.Size) -> tuple[Tensor, int]:
    gradient = contribution.gradient(output_gradient)
    return gradient.reshape(len(gradient), -1, *shape[1:]), contribution.first_row
