"""A multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    Args:
        inputs: Number of input values of an example; inputs of any shape are flattened.
        widths: Hidden widths.
        outputs: Number of classes, or of predicted values.
    """

    def __init__(self, inputs: int, widths: Sequence[int], outputs: int):
        super().__init__()
        sizes = [inputs, *widths, outputs]
        layers: list[nn.Module] = [nn.Flatten()]
        for position, (incoming, outgoing) in enumerate(pairwise(sizes)):
            if position:
                layers.append(nn.ReLU())
            layers.append(nn.Linear(incoming, outgoing))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        return self.layers(inputs)
