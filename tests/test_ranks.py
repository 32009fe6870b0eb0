import numpy as np
import pytest
from scipy.stats import spearmanr

from trakflow.ranks import rank_correlations


@pytest.mark.parametrize("levels", [None, 4])
def test_equal_to_scipys_spearman_with_and_without_ties(levels):
    random = np.random.default_rng(0)
    left, right = random.standard_normal((2, 30, 6))
    right += left
    if levels:
        left, right = np.round(left * levels / 4), np.round(right * levels / 4)
    expected = [spearmanr(left[:, column], right[:, column]).statistic for column in range(6)]
    np.testing.assert_allclose(rank_correlations(left, right), expected, atol=1e-12)


def test_textbook_formula_by_hand():
    # Rank differences of 1, -1, 0, 2, -2 give 1 - 6 * 10 / (5 * 24) = .5.
    left = np.array([[10.0], [20], [30], [40], [50]])
    right = np.array([[2.0], [1], [3], [6], [2.5]])
    ranks = np.array([2, 1, 4, 5, 3])
    assert rank_correlations(left, right)[0] == pytest.approx(1 - 6 * ((ranks - np.arange(1, 6)) ** 2).sum() / 120)


def test_only_the_order_matters():
    random = np.random.default_rng(1)
    left, right = random.standard_normal((2, 25, 3))
    np.testing.assert_array_equal(rank_correlations(np.exp(left), right**3), rank_correlations(left, right))


def test_a_constant_column_counts_as_zero():
    values = np.arange(8.0).reshape(4, 2)
    constant = np.column_stack([np.ones(4), values[:, 1]])
    assert rank_correlations(values, constant).tolist() == [0, 1]
