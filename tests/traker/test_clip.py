"""CLIP through the class, beside its scores by the formula in float64."""

import numpy as np
import pytest
import torch
from traker_problem import featurize, score, traker

from pairs import pairs, tiny_model
from trakflow.errors import ConfigError
from trakflow.tasks.clip import CLIP
from trakflow.tasks.preparation import prepared

N, M = 30, 5


def tuples(count, seed):
    return tuple(pairs(count, seed, torch.float32).values())


TRAIN, TARGETS = tuples(N, 1), tuples(M, 2)
REFERENCES = tuple(array[::3] for array in TRAIN)


def states():
    return [tiny_model(seed, torch.float32).state_dict() for seed in (1, 2)]


def new(folder, **arguments):
    settings = {"model": tiny_model(dtype=torch.float32), "task": "clip", "train_set_size": N, "projector": "identity"}
    return traker(folder, **{**settings, "references": REFERENCES, **arguments})


def by_hand():
    """mean(Q) * mean(Phi (Phi^T W Phi + ridge I)^-1 phi) with autograd's gradients, one example at a time."""
    weights, products = [], []
    train, targets, references = (
        {"inputs": part[0].double(), "tokens": part[1]} for part in (TRAIN, TARGETS, REFERENCES)
    )
    for state in states():
        model = tiny_model()
        model.load_state_dict(state)
        task = prepared(CLIP(), model, references)
        parameters = list(model.parameters())

        def gradients(batch, model=model, task=task, parameters=parameters):
            f = task.output(task.forward(model, batch), batch)
            return torch.stack(
                [
                    torch.cat([part.flatten() for part in torch.autograd.grad(one, parameters, retain_graph=True)])
                    for one in f
                ]
            )

        phi, target = gradients(train), gradients(targets)
        raw = task.forward(model, train).detach()
        w = task.curvature(raw, train).double()
        gram = phi.T @ (w[:, None] * phi)
        ridge = float(gram.diagonal().sum()) / min(N, len(gram))
        system = gram + ridge * torch.eye(len(gram), dtype=torch.float64)
        products.append(phi @ torch.linalg.solve(system, target.T))
        weights.append(task.loss_gradient(raw, train).double())
    return (torch.stack(weights).mean(0)[:, None] * torch.stack(products).mean(0)).numpy()


def test_scores_are_those_by_hand(tmp_path):
    attributor = featurize(new(tmp_path), states(), TRAIN)
    attributor.finalize_features()
    found, expected = score(attributor, states(), TARGETS), by_hand()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def test_references_are_asked_for_before_anything_is_done(tmp_path):
    with pytest.raises(ConfigError, match="give a batch of training examples as references"):
        new(tmp_path, references=None)
    with pytest.raises(ConfigError, match="references must be None: Regression compares with no examples"):
        new(tmp_path, task="regression")
    assert not list(tmp_path.iterdir())


def test_a_folder_keeps_to_its_references(tmp_path):
    new(tmp_path)
    new(tmp_path)
    with pytest.raises(ConfigError, match="references is"):
        new(tmp_path, references=tuple(array[:10] for array in TRAIN))
