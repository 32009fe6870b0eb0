"""What the gradient of a parameter is made of, before it is multiplied out.

A module's output gradient and its input determine the gradients of its parameters. A contribution holds the input's
part, made in the forward pass; with the output's gradient it becomes a (batch x rows x columns) gradient, where rows
are the first dimension of the parameter and columns all others. Sketches never need that product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trakflow.errors import SketchError


class Kept:
    """A tensor of the forward pass that the backward pass needs as it was.

    Args:
        tensor: Kept without a copy.
        owner: Whose input it is, for the message.
    """

    def __init__(self, tensor: Tensor, owner: str):
        self._tensor = tensor.detach()
        self._version = self._tensor._version
        self._owner = owner

    def get(self) -> Tensor:
        """Return the tensor.

        Raises:
            SketchError: The model has changed it in place since.
        """
        if self._tensor._version != self._version:
            raise SketchError(
                f"The input of {self._owner} was modified in place after use, so its gradient cannot be computed. "
                "Make the operation that follows it out of place (for example inplace=False), or use sketch=sjlt."
            )
        return self._tensor


@dataclass(frozen=True)
class Outer:
    """gradient = sum over positions of output_gradient x input: matrix products.

    Attributes:
        parameter: Name in the model.
        inputs: (batch x positions x features).
        positional: Whether the module sees several positions an example, whatever their number in this batch.
        first_row: Where its rows begin in the parameter, for one that holds several matrices.
        transposed: Whether the parameter is stored (input x output).
    """

    parameter: str
    inputs: Kept
    positional: bool
    first_row: int = 0
    transposed: bool = False

    def outputs(self, output_gradient: Tensor) -> Float[Tensor, "batch positions outputs"]:
        """Arrange an output gradient like the inputs."""
        batch, positions, _ = self.inputs.get().shape
        return output_gradient.reshape(batch, positions, output_gradient.shape[-1])


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution of one to three dimensions; padding is by zeros."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def convolve(self, inputs: Tensor, filters: Tensor, groups: int) -> Tensor:
        """Convolve with other filters of the same geometry."""
        convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self.kernel) - 1]
        return convolution(
            inputs, filters, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=groups
        )

    def patches(self, inputs: Tensor) -> Float[Tensor, "batch groups columns positions"]:
        """Return what lies under the filters, a column for each weight of a filter; a copy, larger than the inputs."""
        sides = [side for padding in reversed(self.padding) for side in (padding, padding)]
        found = functional.pad(inputs, sides)
        for dimension, (kernel, stride, dilation) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=2
        ):
            found = found.unfold(dimension, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
        space = len(self.kernel)
        positions, kernels = range(2, 2 + space), range(2 + space, 2 + 2 * space)
        found = found.permute(0, 1, *kernels, *positions)
        count = found.shape[-space:].numel()
        return found.reshape(len(inputs), self.groups, -1, count)

    def weight_gradients(self, output_gradient: Tensor, inputs: Tensor) -> Float[Tensor, "batch rows columns"]:
        """Return the gradient of the filters by each example, all at once: for devices that are slow to start."""
        gradients = output_gradient.flatten(2).unflatten(1, (self.groups, -1))
        return (gradients @ self.patches(inputs.to(gradients.dtype)).transpose(2, 3)).flatten(1, 2)

    def weight_gradient(self, output_gradient: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of filters shaped as `weight`, summed over the examples given."""
        return torch.ops.aten.convolution_backward(
            output_gradient,
            inputs.to(output_gradient.dtype),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0] * len(self.kernel),
            self.groups,
            [False, True, False],
        )[1]


@dataclass(frozen=True)
class Patches:
    """gradient = sum over positions of output_gradient x patch of the input: convolutions.

    Attributes:
        parameter: Name in the model.
        inputs: (batch * repeats) x channels x space, examples first.
        batch: Number of examples.
        window: The geometry.
    """

    parameter: str
    inputs: Kept
    batch: int
    window: Window


@dataclass(frozen=True)
class Lookup:
    """gradient = sum over positions of unit vector of the index x output_gradient: embeddings.

    Attributes:
        parameter: Name in the model.
        indices: (batch x positions), int64.
        ignored: An index without a gradient, or None.
    """

    parameter: str
    indices: Kept
    ignored: int | None

    def outputs(self, output_gradient: Tensor) -> Float[Tensor, "batch positions features"]:
        """Arrange an output gradient like the indices; zero where the index has no gradient."""
        indices = self.indices.get()
        gradient = output_gradient.reshape(*indices.shape, output_gradient.shape[-1])
        return gradient if self.ignored is None else gradient * (indices != self.ignored).unsqueeze(-1)


@dataclass(frozen=True)
class Elementwise:
    """The gradient itself, for parameters that are small: biases, scales.

    Attributes:
        parameter: Name in the model.
        gradient: From the output's gradient to (batch x entries).
        first_row: Where its entries begin in the parameter.
    """

    parameter: str
    gradient: Callable[[Tensor], Float[Tensor, "batch entries"]]
    first_row: int = 0


Contribution = Outer | Patches | Lookup | Elementwise


def summed(output_gradient: Tensor, batch: int, keep: Sequence[int]) -> Float[Tensor, "batch entries"]:
    """Sum over everything but the examples and the dimensions to keep (counted from the end), flattened."""
    grouped = output_gradient.reshape(batch, -1, *output_gradient.shape[1:])
    kept = {dimension % grouped.ndim for dimension in keep} | {0}
    over = [dimension for dimension in range(grouped.ndim) if dimension not in kept]
    return grouped.sum(dim=over).flatten(1)
