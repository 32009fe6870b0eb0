import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from trakflow.features import FeatureSet
from trakflow.kernel import factorize, gram, outer_gram
from trakflow.ridge import chosen_ridge, self_lds_by_target
from trakflow.scoring import CheckpointParts

RIDGES = [1e-3, 0.1, 1.0, 30.0]


def problem(write_features, k, n=24, m=5, count=6, seed=0):
    random = np.random.default_rng(seed)
    shared = random.standard_normal((n, k))
    masks = np.stack([random.permutation(n) < n // 2 for _ in range(count)])
    outputs = random.standard_normal((count, m)).astype(np.float32)
    loaders, dense = [], []
    for number in range(count):
        features = (shared + 0.3 * random.standard_normal((n, k))).astype(np.float32)
        targets = random.standard_normal((m, k)).astype(np.float32)
        gradients, curvatures = random.uniform(size=(2, n)).astype(np.float32)
        found = FeatureSet(write_features(features, gradients, curvatures, (10,), f"{seed}.{number}"), True)
        matrix = gram(found.rows(), k) if k <= n else outer_gram(found.rows, n)
        kernel = factorize(matrix, "features" if k <= n else "examples")
        parts = CheckpointParts(found, kernel, torch.from_numpy(targets), float("nan"))
        loaders.append(lambda parts=parts: parts)
        dense.append([value.astype(np.float64) for value in (features, targets, gradients, curvatures)])
    return loaders, masks, np.stack([d[2] for d in dense]).astype(np.float32), outputs, dense


def brute_force(dense, masks, outputs, relative):
    """Each checkpoint predicted by the dense scores of the others, one ridge, one target, one subset at a time."""
    n, k = dense[0][0].shape
    kernels = []
    for features, targets, _, curvatures in dense:
        matrix = features.T @ (curvatures[:, None] * features)
        ridge = relative * np.trace(matrix) / min(n, k)
        kernels.append(features @ np.linalg.solve(matrix + ridge * np.eye(k), targets.T))
    predictions = np.zeros(outputs.shape)
    for left_out in range(len(dense)):
        others = [number for number in range(len(dense)) if (masks[number] != masks[left_out]).any()]
        mean_q = np.mean([dense[number][2] for number in others], axis=0)
        scores = mean_q[:, None] * np.mean([kernels[number] for number in others], axis=0)
        inside = masks[left_out]
        predictions[left_out] = scores[inside].sum(axis=0) - inside.mean() * scores.sum(axis=0)
    return [spearmanr(predictions[:, target], outputs[:, target]).statistic for target in range(outputs.shape[1])]


@pytest.mark.parametrize("same", [{}, {1: 0, 5: 4}], ids=["runs", "epochs_of_runs"])
@pytest.mark.parametrize("k", [8, 24, 60])
def test_equal_to_scoring_each_checkpoint_densely_by_the_others_with_one_in_memory(write_features, k, same):
    loaders, masks, gradients, outputs, dense = problem(write_features, k)
    for number, run in same.items():
        masks[number] = masks[run]
    made = []

    def alone(load):
        def call():
            assert all(parts() is None for parts in made)
            parts = replace(load())
            made.append(weakref.ref(parts))
            return parts

        return call

    loaders = [alone(load) for load in loaders]
    found = self_lds_by_target(loaders, masks, gradients, outputs, RIDGES)
    expected = np.array([brute_force(dense, masks, outputs, ridge) for ridge in RIDGES])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(np.unique(expected.round(6), axis=0)) > 1  # the ridge matters in this problem


@pytest.mark.parametrize("count", [2, 6])
def test_outputs_that_only_follow_the_size_of_a_models_own_scores_are_not_predicted(write_features, count):
    """The sum of the others' scores goes against them, as each is missing from its own sum; the parts say nothing."""
    found, naive = [], []
    for seed in range(20):
        loaders, masks, gradients, _, dense = problem(write_features, 8, m=20, count=count, seed=seed)
        own = np.stack([totals(*arrays) for arrays in dense])
        found.append(self_lds_by_target(loaders, masks, gradients, own.astype(np.float32), [1.0]).mean())
        others = own.sum(axis=0) - own
        naive.append(np.mean([spearmanr(others[:, target], own[:, target]).statistic for target in range(20)]))
    assert np.mean(naive) == pytest.approx(-1)
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def totals(features, targets, gradients, curvatures):
    """The sum of a checkpoint's own scores over all training examples, by target."""
    matrix = features.T @ (curvatures[:, None] * features)
    kernel = features @ np.linalg.solve(matrix + np.trace(matrix) / 8 * np.eye(8), targets.T)
    return (gradients[:, None] * kernel).sum(axis=0)


@pytest.mark.parametrize(
    ("peak", "height", "parts", "expected"),
    [
        (1.0, 0.3, 2, 1.0),
        (100.0, 0.09, 2, 1.0),  # where it should have .05 * 2^2 / 2 = .1 more
        (100.0, 0.11, 2, 100.0),
        (100.0, 0.03, 10, 100.0),
        (0.01, 0.03, 10, 0.01),
        (0.01, 0.01, 10, 1.0),
    ],
)
def test_few_parts_must_say_clearly_that_the_ridge_is_not_the_mean_diagonal(peak, height, parts, expected):
    ridges = np.geomspace(1e-3, 1e3, 7)
    self_lds = np.where(np.isclose(ridges, peak), 0.2 + height, 0.2)
    assert ridges[chosen_ridge(self_lds, ridges, parts)] == pytest.approx(expected)


def test_of_equals_the_largest_ridge_is_chosen():
    assert chosen_ridge(np.array([0.2, 0.1, 0.2]), np.array([0.1, 1.0, 10.0]), 3) == 2
