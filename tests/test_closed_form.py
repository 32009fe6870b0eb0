"""Scores of the whole pipeline against the formula, written here in float64 with nothing of trakflow's."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn


def gradients(path, inputs, labels):
    """Gradient of log(p / (1 - p)) of each example by all parameters, and p, one example at a time, in float64."""
    state = load_file(path)
    first, second = state["layers.1.weight"], state["layers.3.weight"]
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(*first.shape[::-1]), nn.ReLU(), nn.Linear(*second.shape[::-1])
    ).double()
    model.load_state_dict({name.removeprefix("layers."): torch.from_numpy(value) for name, value in state.items()})
    rows, probabilities = [], []
    for image, label in zip(torch.from_numpy(inputs).double(), labels, strict=True):
        p = torch.softmax(model(image[None]), dim=1)[0, label]
        row = torch.autograd.grad(torch.log(p / (1 - p)), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in row]).numpy())
        probabilities.append(float(p.detach()))
    return np.array(rows), np.array(probabilities)


def closed_form(layout, checkpoints, weighted, ridge, unit):
    train, targets = load_file(layout.train), load_file(layout.targets)
    mean_q, mean_kernel = 0, 0
    for checkpoint in checkpoints:
        path = layout.checkpoint(checkpoint)
        phi, p = gradients(path, train["inputs"], train["labels"])
        at_targets, _ = gradients(path, targets["inputs"], targets["attributed_labels"])
        w = p * (1 - p) if weighted else np.ones_like(p)
        gram = phi.T @ np.diag(w) @ phi
        absolute = ridge * np.trace(gram) / min(gram.shape[0], len(phi)) if unit == "relative" else ridge
        mean_kernel += phi @ np.linalg.solve(gram + absolute * np.eye(len(gram)), at_targets.T) / len(checkpoints)
        mean_q += (1 - p) / len(checkpoints)
    return mean_q[:, None] * mean_kernel


# 64 inputs, one hidden layer of w and 10 classes are 75 w + 10 parameters.
SIZES = {
    "k > n": ("data.train_size=60", "model.widths=[8]", "shards=2"),
    "k <= n, no shard has k rows": ("data.train_size=200", "model.widths=[2]", "shards=3"),
    "k <= n, a partial Gram matrix a shard": ("data.train_size=330", "model.widths=[2]", "shards=2"),
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("weights", ["on", "off"])
@pytest.mark.parametrize(("ridge", "unit"), [(0.3, "relative"), (2.0, "absolute")])
def test_scores_equal_the_formula(experiment, sizes, weights, ridge, unit):
    solver = (f"solver.weights={weights}", f"solver.ridge={ridge}", f"solver.ridge_unit={unit}")
    run = experiment("sketch=identity", "sketch.k=null", "evaluation=none", *SIZES[sizes], *solver)
    run.prepare().train().featurize().solve()
    found = run.scores()
    expected = closed_form(run.layout, range(3), weights == "on", ridge, unit)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (run.config.data.train_size, 7)
    assert (np.abs(found - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() <= 1e-5


def test_a_chosen_label_is_the_one_attributed(experiment):
    run = experiment("sketch=identity", "sketch.k=null", "evaluation=none", "targets.output=3", "solver.ridge=1")
    run.prepare().train().featurize().solve()
    assert load_file(run.layout.targets)["attributed_labels"].tolist() == [3] * 7
    expected = closed_form(run.layout, range(3), True, 1.0, "relative")
    assert (np.abs(run.scores() - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() <= 1e-5
