import itertools

import numpy as np
import pytest
import torch

from trakflow import kernel
from trakflow.errors import NumericalError
from trakflow.kernel import BilinearCurve, factorize, gram, outer_gram

SHAPES = [(40, 12), (12, 12), (9, 25)]
shapes = pytest.mark.parametrize(("n", "k"), SHAPES)
weighting = pytest.mark.parametrize("weighted", [True, False])


def problem(n, k, weighted):
    """Phi and W in float32, a stream of them in uneven blocks, and the dense Gram matrix in float64."""
    random = np.random.default_rng(0)
    features = random.standard_normal((n, k)).astype(np.float32)
    weights = random.uniform(0, 0.25, n).astype(np.float32) if weighted else None
    edges = [0, 2, 3, min(n, 8), *range(20, n, 30), n]

    def stream():
        for start, stop in itertools.pairwise(edges):
            own = torch.from_numpy(weights[start:stop]) if weighted else None
            yield start, torch.from_numpy(features[start:stop]), own

    rows = features.astype(np.float64)
    w = weights.astype(np.float64) if weighted else np.ones(n)
    return stream, rows, w, rows.T @ (w[:, None] * rows)


def kernel_of(stream, n, k):
    return factorize(gram(stream(), k), "features") if k <= n else factorize(outer_gram(stream, n), "examples")


@shapes
@weighting
def test_gram_matrices_equal_dense_products(n, k, weighted):
    stream, rows, w, dense = problem(n, k, weighted)
    np.testing.assert_allclose(gram(stream(), k).numpy(), dense, rtol=1e-12, atol=1e-12)
    scaled = np.sqrt(w)[:, None] * rows
    np.testing.assert_allclose(outer_gram(stream, n).numpy(), scaled @ scaled.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(300, 130), (130, 300)])
@weighting
def test_gram_matrices_of_several_panels_equal_dense_products(monkeypatch, n, k, weighted):
    for name, value in (("ROWS", 64), ("COLUMNS", 50), ("PANEL_BYTES", 8 * k * 20)):
        monkeypatch.setattr(kernel, name, value)
    stream, rows, w, dense = problem(n, k, weighted)
    scaled = np.sqrt(w)[:, None] * rows
    for found, expected in ((gram(stream(), k), dense), (outer_gram(stream, n), scaled @ scaled.T)):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-11)
    assert torch.equal(gram(stream(), k), gram(stream(), k).T)


@shapes
@weighting
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e4])
def test_solve_equals_a_dense_solve_on_either_side(n, k, weighted, ridge):
    stream, _, _, dense = problem(n, k, weighted)
    columns = np.random.default_rng(1).standard_normal((k, 5))
    expected = np.linalg.solve(dense + ridge * np.eye(k), columns)
    found = kernel_of(stream, n, k).solve(torch.from_numpy(columns), ridge, stream).columns
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "k"), [(40, 12), (12, 12)])
def test_the_two_sides_solve_alike(n, k):
    stream, _, _, _ = problem(n, k, True)
    columns = torch.from_numpy(np.random.default_rng(1).standard_normal((k, 5)))
    by_features = factorize(gram(stream(), k), "features").solve(columns, 0.3, stream).columns
    by_examples = factorize(outer_gram(stream, n), "examples").solve(columns, 0.3, stream).columns
    torch.testing.assert_close(by_examples, by_features, rtol=1e-9, atol=1e-11)


def test_without_ridge_a_full_rank_system_is_solved_exactly():
    stream, _, _, dense = problem(40, 12, True)
    columns = np.random.default_rng(1).standard_normal((12, 5))
    found = kernel_of(stream, 40, 12).solve(torch.from_numpy(columns), 0.0, stream).columns
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(dense, columns), rtol=1e-9)


@shapes
@weighting
def test_the_bilinear_curve_equals_dense_solves_at_every_ridge(n, k, weighted):
    stream, _, _, dense = problem(n, k, weighted)
    left, right = np.random.default_rng(1).standard_normal((2, k, 4))
    right = right[:, :3]
    curve = BilinearCurve.of(kernel_of(stream, n, k), torch.from_numpy(left), torch.from_numpy(right), stream)
    for ridge in (1e-3, 0.1, 10.0, 1e4):
        expected = left.T @ np.linalg.solve(dense + ridge * np.eye(k), right)
        np.testing.assert_allclose(curve.at(ridge).numpy(), expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


@shapes
@weighting
def test_a_relative_ridge_is_in_units_of_the_mean_diagonal(n, k, weighted):
    stream, _, _, dense = problem(n, k, weighted)
    found = kernel_of(stream, n, k)
    assert found.ridge(3.0, "relative") == pytest.approx(3 * np.trace(dense) / min(n, k))
    assert found.ridge(3.0, "absolute") == 3.0


def test_no_ridge_with_more_features_than_examples_is_refused():
    stream, _, _, _ = problem(9, 25, False)
    with pytest.raises(NumericalError, match=r"k is larger than n.*solver\.ridge.*sketch\.k"):
        kernel_of(stream, 9, 25).solve(torch.ones(25, 1, dtype=torch.float64), 0.0, stream)


@pytest.mark.parametrize("lost", ["repeated column", "zero column"])
def test_no_ridge_with_a_singular_gram_matrix_is_refused_with_its_rank(lost):
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((30, 6)))
    features[:, 5] = features[:, 0] if lost == "repeated column" else 0

    def stream():
        yield 0, features.float(), None

    kernel = factorize(gram(stream(), 6), "features")
    with pytest.raises(NumericalError, match=r"rank 5 of 6.*solver\.ridge"):
        kernel.solve(torch.ones(6, 1, dtype=torch.float64), 0.0, stream)
    assert torch.isfinite(kernel.solve(torch.ones(6, 1, dtype=torch.float64), 1e-6, stream).columns).all()


def test_the_factors_give_the_matrix_back_and_no_eigenvalue_is_negative():
    singular = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 20)))
    matrix = singular.T @ singular
    kernel = factorize(matrix, "features")
    assert float(kernel.eigenvalues.min()) >= 0
    assert (kernel.eigenvalues.diff() >= 0).all()
    back = kernel.eigenvectors @ torch.diag(kernel.eigenvalues) @ kernel.eigenvectors.T
    torch.testing.assert_close(back, matrix, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or Inf"), (float("inf"), "NaN or Inf"), (0.0, "zero")]
)
def test_a_matrix_that_cannot_be_factored_is_refused(value, message):
    with pytest.raises(NumericalError, match=message):
        factorize(torch.full((3, 3), value, dtype=torch.float64), "features")
