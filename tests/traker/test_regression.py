"""Regression through the class, where the formula can be written down: a linear model."""

import numpy as np
import pytest
import torch
from traker_problem import featurize, score, traker

N, M = 40, 6


def data(size, seed):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(size, 5, generator=random), torch.randn(size, generator=random)


TRAIN, TARGETS = data(N, 1), data(M, 2)


def states():
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(torch.nn.Linear(5, 1).state_dict())
    return found


def by_hand():
    """mean(y - f) * mean(X (X^T X + ridge I)^-1 x): the gradient of a linear model is its input, and a one."""
    rows, targets = (torch.cat([part[0], torch.ones(len(part[0]), 1)], dim=1).double() for part in (TRAIN, TARGETS))
    gram = rows.T @ rows
    system = gram + float(gram.diagonal().mean()) * torch.eye(6, dtype=torch.float64)
    residuals = [
        TRAIN[1].double() - TRAIN[0].double() @ state["weight"][0].double() - state["bias"].double()
        for state in states()
    ]
    return (torch.stack(residuals).mean(0)[:, None] * (rows @ torch.linalg.solve(system, targets.T))).numpy()


@pytest.mark.parametrize("as_mapping", [False, True])
def test_scores_of_a_linear_model_are_those_by_hand(tmp_path, as_mapping):
    attributor = traker(tmp_path, model=torch.nn.Linear(5, 1), task="regression", projector="identity")
    if as_mapping:
        for model_id, state in enumerate(states()):
            attributor.load_checkpoint(state, model_id=model_id)
            attributor.featurize({"values": TRAIN[1], "inputs": TRAIN[0]}, num_samples=N)
    else:
        featurize(attributor, states(), TRAIN)
    attributor.finalize_features()
    found = score(attributor, states(), TARGETS)
    np.testing.assert_allclose(found, by_hand(), rtol=1e-4, atol=1e-6)
