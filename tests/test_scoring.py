import weakref

import numpy as np
import pytest
import torch

from trakflow import scoring
from trakflow.errors import NumericalError, StoreError
from trakflow.features import FeatureSet
from trakflow.kernel import factorize, gram, outer_gram
from trakflow.scoring import CheckpointParts, score_blocks
from trakflow.store import checksums
from trakflow.topk import TopExamples

N, M, RIDGES = 36, 11, (0.5, 2.0, 7.0)


def problem(write_features, k, dtype=np.float32):
    """Three checkpoints on disk with ridges of their own, and their arrays in float64."""
    random = np.random.default_rng(0)
    loaders, dense = [], []
    for name, ridge in zip("abc", RIDGES, strict=True):
        features = random.standard_normal((N, k)).astype(dtype)
        targets = random.standard_normal((M, k)).astype(np.float32)
        gradients, curvatures = random.uniform(size=(2, N)).astype(np.float32)
        found = FeatureSet(write_features(features, gradients, curvatures, (11, 24), name), True)
        side = "features" if k <= N else "examples"
        kernel = factorize(gram(found.rows(), k) if k <= N else outer_gram(found.rows, N), side)
        arguments = (found, kernel, torch.from_numpy(targets), ridge)
        loaders.append(lambda arguments=arguments: CheckpointParts(*arguments))
        dense.append([value.astype(np.float64) for value in (features, targets, gradients, curvatures)])
    return loaders, dense


def closed_form(dense):
    kernels = []
    for (features, targets, _, curvatures), ridge in zip(dense, RIDGES, strict=True):
        matrix = features.T @ (curvatures[:, None] * features) + ridge * np.eye(features.shape[1])
        kernels.append(features @ np.linalg.solve(matrix, targets.T))
    return np.mean([gradients for _, _, gradients, _ in dense], axis=0)[:, None] * np.mean(kernels, axis=0)


@pytest.fixture
def small_blocks(monkeypatch):
    """Feature files of several checksummed blocks a shard, with only a few rows each."""
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 120)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("few", [0, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", [6, 50])
@pytest.mark.parametrize("memory", [1, 100, 1500, 5000, 1 << 20])
def test_scores_are_the_product_of_two_means_whatever_the_memory(monkeypatch, write_features, k, memory, dtype, few):
    monkeypatch.setattr(scoring, "FEW", few)
    loaders, dense = problem(write_features, k, dtype)
    scores, seen = np.full((N, M), np.nan), np.zeros((N, M), dtype=int)
    order = []
    for row, target, block in score_blocks(loaders, N, M, k, memory):
        assert block.dtype == np.float32
        assert block.nbytes <= max(memory, 4)
        where = slice(row, row + block.shape[0]), slice(target, target + block.shape[1])
        scores[where] = block
        seen[where] += 1
        order.append((target, row))
    assert (seen == 1).all()
    assert order == sorted(order)
    assert len(order) > 1 or memory >= N * M * 4
    expected = closed_form(dense)
    assert (np.abs(scores - expected).max(axis=0) / np.abs(expected).max(axis=0)).max() < 1e-5


@pytest.mark.parametrize("ridge", [1.0, 1e-2, 1e-5])
def test_scores_are_right_where_a_small_ridge_makes_products_cancel(write_features, ridge):
    """With k > n, (G + ridge I)^-1 phi(z) is large across the rows, which see nothing of it."""
    random = np.random.default_rng(2)
    features, targets = random.standard_normal((N, 500)).astype(np.float32), random.standard_normal((M, 500))
    gradients, curvatures = random.uniform(0.5, 1, size=(2, N)).astype(np.float32)
    found = FeatureSet(write_features(features, gradients, curvatures, (11, 24)), True)
    kernel = factorize(outer_gram(found.rows, N), "examples")
    parts = CheckpointParts(found, kernel, torch.from_numpy(targets.astype(np.float32)), ridge)
    scores = np.concatenate([block.copy() for _, _, block in score_blocks([lambda: parts], N, M, 500, 1 << 20)])
    rows = features.astype(np.float64)
    small = rows @ rows.T * curvatures + ridge * np.eye(N)
    expected = gradients[:, None] * np.linalg.solve(small, rows @ targets.astype(np.float32).T)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [6, 50])
def test_one_checkpoint_is_held_at_a_time_and_none_while_rows_are_scored(write_features, k):
    loaders, _ = problem(write_features, k)
    made = []

    def counted(load):
        def call():
            assert all(parts() is None for parts in made)
            parts = load()
            made.append(weakref.ref(parts))
            return parts

        return call

    for _ in score_blocks([counted(load) for load in loaders], N, M, k, 1500):
        assert all(parts() is None for parts in made)
    assert len(made) % len(loaders) == 0
    assert len(made) > 0


@pytest.mark.usefixtures("small_blocks")
def test_what_was_solved_for_some_targets_is_gone_before_the_next_are_begun(monkeypatch, write_features):
    loaders, _ = problem(write_features, 6)
    solve, made = scoring._solve, []

    def counted(*arguments):
        assert len(made) % len(loaders) or all(solved() is None for solved in made)
        solved = solve(*arguments)
        made.append(weakref.ref(solved))
        return solved

    monkeypatch.setattr(scoring, "_solve", counted)
    for _ in score_blocks(loaders, N, M, 6, 500):
        pass
    assert len(made) > 2 * len(loaders)


@pytest.mark.usefixtures("small_blocks")
def test_the_best_are_found_without_the_dense_scores_whatever_the_memory(write_features):
    loaders, _ = problem(write_features, 6)
    ((_, _, scores),) = score_blocks(loaders, N, M, 6, 1 << 20)
    expected = np.argsort(-scores, axis=0, kind="stable")[:4]
    for memory in (1, 100, 1500):
        top = TopExamples(4)
        for block in score_blocks(loaders, N, M, 6, memory):
            top.add(*block)
        found = [best.row for (_, direction), best in sorted(top._best.items()) if direction == "helpful"]
        np.testing.assert_array_equal(np.concatenate(found), expected.T.ravel())


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_block_is_found_before_a_score_is_made_of_it(write_features):
    loaders, _ = problem(write_features, 6)
    file = loaders[1]().features.files[1]
    rows = file.checksums["features"]["rows"]
    assert len(file.starts("features")) > 2
    with file.path.open("r+b") as raw:
        raw.seek(file._places["features"].offset + rows * 6 * 4)
        raw.write(b"\xff")
    ends = []
    with pytest.raises(StoreError, match=rf"rows {rows} to {2 * rows - 1} of 'features'.*checksum"):
        ends.extend(row + len(block) for row, _, block in score_blocks(loaders, N, M, 6, 80))
    assert ends
    assert max(ends) <= 11 + rows


def test_a_system_without_a_unique_solution_is_refused(write_features):
    loaders, _ = problem(write_features, 50)
    parts = loaders[0]()
    without = CheckpointParts(parts.features, parts.kernel, parts.target_features, 0.0)
    with pytest.raises(NumericalError, match=r"solver\.ridge"):
        list(score_blocks([lambda: without], N, M, 50, 1 << 20))
