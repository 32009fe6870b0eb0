"""The preconditioner of conjugate gradient against eigendecompositions in float64."""

import numpy as np
import pytest
import torch

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
    damped = matrix + 0.5 * torch.eye(200)
    right = torch.randn(5, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    counts = []

    def product(rows):
        counts[-1] += len(rows)
        return rows @ damped

    for precondition in (lambda rows: rows, preconditioner(matrix, 40, 0.5)):
        counts.append(0)
        found = conjugate_gradient(product, right, 1e-9, 1000, precondition)
        torch.testing.assert_close(found, torch.linalg.solve(damped, right.T).T, rtol=1e-7, atol=1e-9)
    assert counts[1] < counts[0] / 3
