"""Empirical influence (Feldman & Zhang 2020, arXiv 2008.03703): mean output with an example minus that without it."""

import numpy as np
from jaxtyping import Bool, Float, Float32

from trakflow.errors import DataError
from trakflow.methods.base import RetrainedMethod


class EmpiricalInfluence(RetrainedMethod):
    """The difference of means over retrained models, for each example and target (equation 1 there)."""

    def scores(
        self, masks: Bool[np.ndarray, "subsets n"], outputs: Float32[np.ndarray, "subsets m"], seed: int
    ) -> Float[np.ndarray, "n m"]:
        """Mean output of the models that have seen example i, minus that of the others.

        Raises:
            DataError: An example is in every subset or in none.
        """
        seen = masks.astype(np.float64)
        inside = seen.sum(axis=0)
        never = np.flatnonzero((inside == 0) | (inside == len(masks)))
        if len(never):
            raise DataError(
                f"{len(never)} training examples, {never[0]} the first, are in all or in none of {len(masks)} subsets, "
                "so that their influence cannot be told; raise fitting.counts and fitting.subsets."
            )
        # Centred, so that sums of thousands of outputs lose no digits.
        values = outputs.astype(np.float64) - outputs.mean(axis=0, dtype=np.float64)
        with_it = seen.T @ values
        return with_it / inside[:, None] - (values.sum(axis=0) - with_it) / (len(masks) - inside)[:, None]
