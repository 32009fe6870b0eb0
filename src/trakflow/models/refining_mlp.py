"""A classifier that refines its logits: one layer, applied again and again."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RefiningMLP(nn.Module):
    """A hidden layer that sees the example and its own last state; logits are read after every iteration.

    Args:
        inputs: Number of input values of an example; inputs of any shape are flattened.
        width: Of the hidden state.
        outputs: Number of classes.
        iterations: How often the layer is applied.
    """

    def __init__(self, inputs: int, width: int, outputs: int, iterations: int):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.again = nn.Linear(width, width)
        self.logits = nn.Linear(width, outputs)
        self.iterations = iterations

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch iterations classes"]:
        """Return the logits after every iteration."""
        example = self.first(inputs.flatten(1))
        state, found = torch.zeros_like(example), []
        for _ in range(self.iterations):
            state = torch.tanh(example + self.again(state))
            found.append(self.logits(state))
        return torch.stack(found, dim=1)
