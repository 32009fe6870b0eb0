"""A classifier of three classes with 53 parameters, examples for it, and its gradients by autograd in float64."""

import numpy as np
import torch
from torch import nn

from trakflow.methods.base import Trained
from trakflow.tasks.classification import Classification


def examples(count, seed):
    random = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(count, 6, generator=random),
        "labels": torch.randint(0, 3, (count,), generator=random),
    }


def network():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def checkpoint(number, train, targets, seed=0):
    torch.manual_seed(seed)
    return Trained(network().eval(), Classification(), train, targets, None, number, 0, 4, 2**26, "cpu")


def gradients(trained, arrays, task):
    """Gradients of the task's output, one example after another, in float64 (examples x parameters)."""
    model = network().double()
    model.load_state_dict(trained.model.state_dict())

    rows = []
    for row in range(len(arrays["labels"])):
        batch = {"inputs": arrays["inputs"][row : row + 1].double(), "labels": arrays["labels"][row : row + 1]}
        value = task.output(task.forward(model, batch), batch).sum()
        rows.append(
            torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))]).numpy()
        )
    return np.stack(rows)
