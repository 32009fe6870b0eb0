"""Laws that every random sketch obeys, checked on its features alone, however it makes them.

`features_of(seed)` returns the features (n x k) that a sketch with that seed gives to n examples, whose gradients
(n x p, float64) the caller knows.
"""

import numpy as np
import torch


def scale_of(gradients):
    """|x|^2 |y|^2 + <x, y>^2 of all pairs of rows: k times the variance of <Px, Py> for normal entries (n x n)."""
    products = gradients @ gradients.T
    squares = products.diagonal()
    return squares[:, None] * squares[None, :] + products**2


def assert_unbiased(features_of, gradients, seeds):
    """E<Px, Py> = <x, y> for all pairs of rows, within four standard errors over the seeds."""
    found = torch.stack([features @ features.T for features in (features_of(seed).double() for seed in range(seeds))])
    products = gradients @ gradients.T
    squares = products.diagonal()
    rounding = 1e-5 * torch.sqrt(squares[:, None] * squares[None, :])
    error = found.std(dim=0) / seeds**0.5
    assert ((found.mean(dim=0) - products).abs() <= 4 * error + rounding).all()


def relative_variances(features_of, gradients, pairs, seeds):
    """Squared errors of <Px, Py>, in units of the variance for normal entries, averaged over pairs, for each seed."""
    left, right = pairs
    exact, law = (gradients @ gradients.T)[left, right], scale_of(gradients)[left, right]
    found = []
    for seed in range(seeds):
        features = features_of(seed).double()
        errors = (features[left] * features[right]).sum(dim=1) - exact
        found.append(float((features.shape[1] * errors**2 / law).mean()))
    return np.array(found)


def assert_equal_rows(found, expected):
    """Rows of features agree up to rounding, relative to their own length."""
    lengths = expected.double().norm(dim=1)
    assert float(lengths.min()) > 0
    assert float(((found.double() - expected.double()).norm(dim=1) / lengths).max()) < 1e-5


def correlation(first, second):
    """Cosine of two matrices seen as vectors: a standard error of 1/sqrt(p k) if both are random and independent."""
    first, second = first.double(), second.double()
    return abs(float((first * second).sum() / (first.norm() * second.norm())))


def assert_columns_independent(features):
    """No two features are equal or opposite, and none is correlated with another at any distance of a power of two."""
    features = features.double()
    rows, k = features.shape
    upright = (features * features[:1].sign()).T.numpy()
    assert len(np.unique(upright, axis=0)) == k
    for lag in [1 << power for power in range((k - 1).bit_length())]:
        assert correlation(features[:, lag:], features[:, :-lag]) < 6 / (rows * (k - lag)) ** 0.5, lag
