"""What the hooked sketches should give, from gradients by autograd, one example at a time, in float64 and numpy."""

import numpy as np
import torch

from trakflow.sketches.factorized import make_plan
from trakflow.sketches.tensor_sketch import ParameterHash
from trakflow.tasks.base import Task

CPU = torch.device("cpu")


class Sum(Task):
    """f = a fixed weighted sum of whatever the model returns, so that any model has an output."""

    def forward(self, model, batch):
        found = model(batch["inputs"])
        return found[0] if isinstance(found, tuple) else found

    def output(self, raw, batch):
        flat = raw.flatten(1)
        return (flat * torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype)).sum(dim=1)

    def loss_gradient(self, raw, batch):
        return self.output(raw, batch)


def shapes_of(model):
    return {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients(model, inputs, task=None):
    """Each example's gradient by every parameter (examples x rows x columns)."""
    task = task or Sum()
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    rows = []
    for row in range(len(inputs)):
        batch = {"inputs": inputs[row : row + 1]}
        output = task.output(task.forward(model, batch), batch).sum()
        found = torch.autograd.grad(output, list(parameters.values()), allow_unused=True)
        rows.append(
            [
                (torch.zeros_like(value) if gradient is None else gradient).reshape(len(value), -1).numpy()
                for gradient, value in zip(found, parameters.values(), strict=True)
            ]
        )
    return {name: np.stack(column) for name, column in zip(parameters, zip(*rows, strict=True), strict=True)}


def tensor_sketch(gradients, shapes, k, seed):
    """Every entry added, one after another, to the feature its hash names."""
    features = np.zeros((len(next(iter(gradients.values()))), k))
    for name, gradient in gradients.items():
        own = ParameterHash.draw(name, shapes[name], k, seed, CPU)
        index = (own.rows.index.numpy()[:, None] + own.columns.index.numpy()[None, :].astype(np.int64)) % k
        sign = own.rows.sign.numpy()[:, None].astype(float) * own.columns.sign.numpy()[None, :]
        for example, matrix in enumerate(gradient):
            np.add.at(features[example], index.ravel(), (sign * matrix).ravel())
    return features


def factorized(gradients, shapes, side, seed):
    """P_out^T G P_in, block by block."""
    plan = make_plan(shapes, side, seed, torch.float64, CPU)
    features = np.zeros((len(next(iter(gradients.values()))), plan.width))
    for name, gradient in gradients.items():
        if name in plan.vectors:
            own = plan.vectors[name]
            places = own.index.numpy() + plan.vector_columns.start
            for example, vector in enumerate(gradient[:, :, 0]):
                np.add.at(features[example], places, own.sign.numpy() * vector)
            continue
        block = plan.blocks[name]
        outer = np.eye(gradient.shape[1]) if block.outer is None else block.outer.numpy()
        inner = np.eye(gradient.shape[2]) if block.inner is None else block.inner.numpy()
        features[:, block.columns] += np.stack([(outer.T @ matrix @ inner).ravel() for matrix in gradient])
    return features
