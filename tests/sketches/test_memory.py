"""What an example takes, by which batch sizes are chosen."""

import weakref

import torch

from trakflow.models.mlp import MLP
from trakflow.sketches.capture import Capture, Receiver
from trakflow.sketches.memory import activation_bytes, examples_at_once
from trakflow.tasks.classification import Classification


def arrays(count):
    return {"inputs": torch.randn(count, 5), "labels": torch.zeros(count, dtype=torch.long)}


def test_an_example_takes_the_same_memory_wherever_it_lies():
    model, task = MLP(5, [4], 3).eval(), Classification()
    found = [
        activation_bytes(model, task, {name: array[:1] for name, array in arrays(count).items()})
        for count in (1, 2, 100_000)
    ]
    assert found[0] == found[1] == found[2]
    # Inputs, two layers' outputs and what comes between them: tens of numbers, not hundreds of thousands.
    assert 4 * (5 + 4 + 3) <= found[0] < 1000


def test_batches_fill_the_budget_up_to_the_largest_that_pays():
    budgets = (0, 99, 1000, 10**9)
    assert [examples_at_once(100, budget, "cpu") for budget in budgets] == [1, 1, 10, 256]
    assert [examples_at_once(100, budget, "cuda") for budget in budgets] == [1, 1, 10, 1024]


class Counting(Receiver):
    """Counts how many of the things that it made for the backward pass are alive, each time one is used."""

    class Held:
        pass

    def __init__(self):
        self.made, self.alive = [], []

    def hold(self, contribution):
        held = self.Held()
        self.made.append(weakref.ref(held))
        return held

    def add(self, held, output_gradient):
        self.alive.append(sum(reference() is not None for reference in self.made))


def test_what_a_module_keeps_for_the_backward_pass_is_freed_when_it_was_used():
    model, receiver = MLP(5, [4, 4, 4], 3).eval(), Counting()
    Capture(model, Classification(), dict(model.named_parameters())).run(arrays(2), 2, receiver)
    # Weight and bias of each of four layers, the last layer first.
    assert receiver.alive == [8, 8, 6, 6, 4, 4, 2, 2]
