"""Spearman rank correlation down the columns of two arrays."""

import numpy as np
from jaxtyping import Float, Float64


def rank_correlations(
    left: Float[np.ndarray, "items m"], right: Float[np.ndarray, "items m"]
) -> Float64[np.ndarray, " m"]:
    """Return the Spearman correlation of each column, ties sharing their mean rank; 0 where a column is constant."""
    a, b = _centred_ranks(left), _centred_ranks(right)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)


def _centred_ranks(values: Float[np.ndarray, "items m"]) -> Float64[np.ndarray, "items m"]:
    # Imported here: scipy.stats takes half a second, and every job imports this module.
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0)
    return ranks - ranks.mean(axis=0)
