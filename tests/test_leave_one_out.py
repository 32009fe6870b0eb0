"""Scores of a convex model against what they estimate: f(z; all) - f(z; without i), by retraining without each i."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from trakflow.config.attribution import Sketch
from trakflow.features import FeatureSet
from trakflow.kernel import factorize, gram
from trakflow.scoring import CheckpointParts, score_blocks
from trakflow.sketches.batches import sketch_all
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification

C = 0.1
N, M = 120, 40


class TwoLogits(nn.Module):
    """Logits 0 and w.x, so that the log-odds of either label is w.x up to its sign and the penalty is that on w."""

    def __init__(self, weights):
        super().__init__()
        self.layer = nn.Linear(len(weights), 1, bias=False)
        self.layer.weight.data = torch.from_numpy(weights[None]).float()

    def forward(self, inputs):
        logit = self.layer(inputs)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def fit(inputs, labels):
    # sklearn minimises C * sum(losses) + |w|^2 / 2: an L2 strength of 1 / C for the summed loss. The column of ones
    # makes the intercept a penalised weight, as it is in the formula.
    model = LogisticRegression(C=C, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=200)
    return model.fit(inputs, labels).coef_[0]


@pytest.fixture(scope="module")
def convex():
    inputs, labels = load_breast_cancer(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(labels))[: N + M]
    inputs = StandardScaler().fit_transform(inputs[chosen])
    inputs = np.column_stack([inputs, np.ones(N + M)])
    labels = labels[chosen].astype(np.int64)
    sign = 2 * labels[N:] - 1
    weights = fit(inputs[:N], labels[:N])
    without = np.stack([fit(np.delete(inputs[:N], i, axis=0), np.delete(labels[:N], i)) for i in range(N)])
    effects = sign * ((weights - without) @ inputs[N:].T)
    return inputs, labels, weights, effects


def scores_of(convex, write_features, ridge, weighted):
    inputs, labels, weights, _ = convex
    model = TwoLogits(weights)
    sketch = build_sketch(Sketch(name="identity"), model, Classification(), 0, 0, "cpu")
    arrays = {"inputs": torch.from_numpy(inputs).float(), "labels": torch.from_numpy(labels)}
    found = sketch_all(sketch, arrays, 32, 0, "featurize")
    columns = [found.features, found.loss_gradients, found.curvatures]
    features = FeatureSet(write_features(*(column[:N].numpy() for column in columns), cuts=(50,)), weighted)
    kernel = factorize(gram(features.rows(), features.k), "features")
    parts = CheckpointParts(features, kernel, found.features[N:], ridge)
    ((_, _, scores),) = score_blocks([lambda: parts], N, M, features.k, 1 << 20)
    return scores


def correlations(scores, effects):
    return np.array([np.corrcoef(scores[:, target], effects[:, target])[0, 1] for target in range(scores.shape[1])])


def test_scores_predict_the_effect_of_leaving_an_example_out(convex, write_features):
    scores = scores_of(convex, write_features, 1 / C, True)
    assert correlations(scores, convex[3]).min() > 0.95


def test_scores_are_on_the_scale_of_the_effects_once_divided_by_one_minus_the_leverage(convex, write_features):
    inputs, _labels, weights, effects = convex
    p = 1 / (1 + np.exp(-inputs[:N] @ weights))
    w = p * (1 - p)
    hessian = inputs[:N].T @ (w[:, None] * inputs[:N]) + np.eye(inputs.shape[1]) / C
    leverage = w * np.einsum("ij,ij->i", inputs[:N] @ np.linalg.inv(hessian), inputs[:N])
    estimate = scores_of(convex, write_features, 1 / C, True) / (1 - leverage)[:, None]
    assert correlations(estimate, effects).min() > 0.99
    slope = (estimate * effects).sum() / (estimate**2).sum()
    assert slope == pytest.approx(1, abs=0.05)


def test_the_weights_and_the_ridge_of_the_objective_are_what_makes_it_so(convex, write_features):
    right = correlations(scores_of(convex, write_features, 1 / C, True), convex[3]).min()
    assert correlations(scores_of(convex, write_features, 1 / C, False), convex[3]).min() < right
    assert correlations(scores_of(convex, write_features, 1e-3, True), convex[3]).min() < right - 0.05
