"""The preconditioner of conjugate gradient against eigendecompositions in float64."""

import numpy as np
import pytest
import torch

from trakflow.errors import NumericalError
from trakflow.methods.conjugate_gradient import conjugate_gradient
from trakflow.methods.nystrom import NystromPreconditioner

LIKE = torch.empty(0, dtype=torch.float64)


def with_eigenvalues(values, seed=0):
    random = torch.Generator().manual_seed(seed)
    size = len(values)
    rotation = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=random)).Q
    return rotation @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ rotation.T, rotation


def preconditioner(matrix, rank, damping, like=LIKE):
    random = np.random.default_rng(1)
    return NystromPreconditioner(lambda rows: rows @ matrix, len(matrix), rank, damping, random, like)


def test_with_all_dimensions_it_is_the_inverse_up_to_a_factor():
    matrix, _ = with_eigenvalues(np.geomspace(100.0, 0.5, 12))
    found = preconditioner(matrix, 12, 0.3)(torch.eye(12, dtype=torch.float64))
    expected = (0.5 + 0.3) * torch.linalg.inv(matrix + 0.3 * torch.eye(12))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_of_a_matrix_of_lower_rank_it_has_all_eigenvalues_and_leaves_the_rest_alone(dtype):
    matrix, rotation = with_eigenvalues([9.0, 4.0, 1.0] + [0.0] * 17)
    found = preconditioner(matrix.to(dtype), 8, 1.0, torch.empty(0, dtype=dtype))(rotation.T.to(dtype))
    factors = torch.tensor([2 / 10, 2 / 5, 1.0] + [1.0] * 17, dtype=dtype)
    torch.testing.assert_close(found, factors[:, None] * rotation.T.to(dtype), atol=1e-4, rtol=1e-4)


def test_of_zero_it_changes_nothing():
    rows = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(preconditioner(torch.zeros(4, 4, dtype=torch.float64), 3, 1.0)(rows), rows)


def test_conjugate_gradient_finds_the_same_in_a_fraction_of_the_products():
    matrix, _ = with_eigenvalues(1e4 / (1 + np.arange(200.0)) ** 2)
    right = torch.randn(20, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.linalg.solve(matrix + 0.5 * torch.eye(200), right.T).T
    counts = []

    def product(rows):
        counts[-1] += len(rows)
        return rows @ matrix

    for rank in (0, 40):
        counts.append(0)
        random = np.random.default_rng(1)
        precondition = NystromPreconditioner(product, 200, rank, 0.5, random, LIKE) if rank else lambda rows: rows
        found = conjugate_gradient(lambda rows: product(rows) + 0.5 * rows, right, 1e-9, 1000, precondition)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    assert counts[1] < counts[0] / 3


@pytest.mark.parametrize("precondition", [lambda rows: -rows, torch.zeros_like, lambda rows: rows * torch.nan])
def test_a_preconditioner_that_is_not_positive_definite_is_an_error(precondition):
    matrix, _ = with_eigenvalues(np.geomspace(100.0, 0.5, 12))
    with pytest.raises(NumericalError, match="positive definite"):
        conjugate_gradient(lambda rows: rows @ matrix, torch.ones(2, 12, dtype=torch.float64), 1e-6, 100, precondition)


def test_products_that_are_not_finite_are_an_error():
    with pytest.raises(NumericalError, match="not finite"):
        preconditioner(torch.full((4, 4), torch.inf, dtype=torch.float64), 2, 1.0)
