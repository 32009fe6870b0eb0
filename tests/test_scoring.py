import numpy as np
import pytest
import torch

from trakflow.errors import NumericalError
from trakflow.features import FeatureSet
from trakflow.kernel import factorize, gram, outer_gram
from trakflow.scoring import CheckpointParts, score_blocks

N, M, RIDGES = 30, 11, (0.5, 2.0)


def problem(write_features, k):
    """Two checkpoints on disk with ridges of their own, and their arrays in float64."""
    random = np.random.default_rng(0)
    loaders, dense = [], []
    for name, ridge in zip("ab", RIDGES, strict=True):
        features = random.standard_normal((N, k)).astype(np.float32)
        targets = random.standard_normal((M, k)).astype(np.float32)
        gradients, curvatures = random.uniform(size=(2, N)).astype(np.float32)
        found = FeatureSet(write_features(features, gradients, curvatures, (7, 20), name), True)
        side = "features" if k <= N else "examples"
        kernel = factorize(gram(found.rows(), k) if k <= N else outer_gram(found.rows, N), side)
        parts = CheckpointParts(found, kernel, torch.from_numpy(targets), ridge)
        loaders.append(lambda parts=parts: parts)
        dense.append([value.astype(np.float64) for value in (features, targets, gradients, curvatures)])
    return loaders, dense


def closed_form(dense):
    kernels = []
    for (features, targets, _, curvatures), ridge in zip(dense, RIDGES, strict=True):
        matrix = features.T @ (curvatures[:, None] * features) + ridge * np.eye(features.shape[1])
        kernels.append(features @ np.linalg.solve(matrix, targets.T))
    return np.mean([gradients for _, _, gradients, _ in dense], axis=0)[:, None] * np.mean(kernels, axis=0)


@pytest.mark.parametrize("k", [6, 50])
@pytest.mark.parametrize("columns", [1, 3, M, 1000])
def test_scores_are_the_product_of_two_means_whatever_the_block(write_features, k, columns):
    loaders, dense = problem(write_features, k)
    firsts, blocks = zip(*score_blocks(loaders, N, M, columns * 4 * N), strict=True)
    assert list(firsts) == list(range(0, M, columns))
    assert all(block.shape == (N, min(columns, M - first)) for first, block in zip(firsts, blocks, strict=True))
    scores, expected = np.concatenate(blocks, axis=1), closed_form(dense)
    assert scores.dtype == np.float32
    assert (np.abs(scores - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() < 1e-5


def test_less_memory_than_one_column_still_scores(write_features):
    loaders, _dense = problem(write_features, 6)
    assert len(list(score_blocks(loaders, N, M, 1))) == M


def test_a_system_without_a_unique_solution_is_refused(write_features):
    loaders, _ = problem(write_features, 50)
    parts = loaders[0]()
    without = CheckpointParts(parts.features, parts.kernel, parts.target_features, 0.0)
    with pytest.raises(NumericalError, match=r"solver\.ridge"):
        list(score_blocks([lambda: without], N, M, 1 << 20))
