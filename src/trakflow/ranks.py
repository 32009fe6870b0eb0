"""Spearman rank correlation down the columns of two arrays."""

import numpy as np
from jaxtyping import Float, Float64


def rank_correlations(
    left: Float[np.ndarray, "items m"], right: Float[np.ndarray, "items m"]
) -> Float64[np.ndarray, " m"]:
    """Return the Spearman correlation of each column, ties sharing their mean rank.

    0 where a column is constant, NaN where it holds one.
    """
    a, b = _centred_ranks(left), _centred_ranks(right)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale != 0)


def _centred_ranks(values: Float[np.ndarray, "items m"]) -> Float64[np.ndarray, "items m"]:
    # Not by scipy.stats.rankdata, whose import takes longer than all that a small experiment ranks.
    items = len(values)
    order = values.argsort(axis=0, kind="stable")
    ascending = np.take_along_axis(values, order, axis=0)
    begins = np.ones(values.shape, dtype=bool)
    begins[1:] = ascending[1:] != ascending[:-1]
    ends = np.ones(values.shape, dtype=bool)
    ends[:-1] = begins[1:]
    place = np.arange(items)[:, None]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, place, items)[::-1], axis=0)[::-1]
    centred = np.empty(values.shape)
    np.put_along_axis(centred, order, (first + last - (items - 1)) / 2, axis=0)
    centred[:, np.isnan(values).any(axis=0)] = np.nan
    return centred
