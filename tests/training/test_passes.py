"""Timing forward and backward passes."""

import torch
from torch import nn

from trakflow.tasks.classification import Classification
from trakflow.training.passes import pass_seconds


class Counting(nn.Module):
    """A linear model that notes the examples of each call."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen, self.backward = [], 0

    def forward(self, inputs):
        self.seen.append(len(inputs))
        found = self.linear(inputs)
        found.register_hook(self._note)
        return found

    def _note(self, gradient):
        self.backward += 1


def test_every_pass_goes_forward_and_backward_over_every_example_and_changes_nothing():
    model = Counting().eval()
    before = model.linear.weight.detach().clone()
    arrays = {"inputs": torch.randn(10, 3), "labels": torch.zeros(10, dtype=torch.long)}
    seconds = pass_seconds(model, Classification(), arrays, batch_size=4, repeats=2)
    assert len(seconds) == 2
    assert min(seconds) > 0
    # One pass more, which is not timed.
    assert model.seen == [4, 4, 2] * 3
    assert model.backward == 9
    torch.testing.assert_close(model.linear.weight, before)
    assert model.linear.weight.grad is None
