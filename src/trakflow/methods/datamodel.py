"""Datamodels (Ilyas et al. 2022, arXiv 2202.00622): sparse linear regression from subsets to outputs."""

import numpy as np
from jaxtyping import Bool, Float, Float32

from trakflow.errors import ConfigError, DataError
from trakflow.held_out import number_held_out
from trakflow.methods.base import RetrainedMethod
from trakflow.progress import progress
from trakflow.seeds import generator


class Datamodel(RetrainedMethod):
    """A lasso for each target, its penalty chosen on held-out subsets (section 3 there), by scikit-learn.

    Args:
        penalties: How many penalties are tried, log-spaced below the smallest that makes all scores zero.
        smallest: The last of them, as a part of the first.
        held_out: Part of the subsets that chooses the penalty; the lasso is then fitted on all of them.
    """

    def __init__(self, penalties: int = 20, smallest: float = 0.01, held_out: float = 0.2):
        if penalties < 1 or not 0 < smallest <= 1 or not 0 < held_out < 1:
            raise ConfigError(
                f"A datamodel takes penalties >= 1, 0 < smallest <= 1 and 0 < held_out < 1, but has {penalties}, "
                f"{smallest} and {held_out} (method.datamodel.make)."
            )
        self._penalties = penalties
        self._smallest = smallest
        self._held_out = held_out

    def scores(
        self, masks: Bool[np.ndarray, "subsets n"], outputs: Float32[np.ndarray, "subsets m"], seed: int
    ) -> Float[np.ndarray, "n m"]:
        """Fit the targets one after another.

        Raises:
            DataError: There are too few subsets to hold any out.
        """
        held = number_held_out(len(masks), self._held_out)
        if held is None:
            raise DataError(
                f"A datamodel needs subsets to fit and to choose its penalty on, and there are {len(masks)}; raise "
                "fitting.counts and fitting.subsets."
            )
        order = generator(seed, "datamodel", len(masks)).permutation(len(masks))
        design = np.asfortranarray(masks, dtype=np.float64)
        columns = [
            self._fit(design, values.astype(np.float64), order[held:], order[:held])
            for values in progress(outputs.T, "fit datamodels")
        ]
        return np.stack(columns, axis=1)

    def _fit(
        self,
        design: Float[np.ndarray, "subsets n"],
        values: Float[np.ndarray, " subsets"],
        fit: np.ndarray,
        choose: np.ndarray,
    ) -> Float[np.ndarray, " n"]:
        # Imported here: jobs that only look at the settings of the method would wait for it.
        from sklearn.linear_model import Lasso, lasso_path

        if np.ptp(values[fit]) == 0:
            # Nothing to explain.
            return np.zeros(design.shape[1])
        mean, middle = values[fit].mean(), design[fit].mean(axis=0)
        centred = np.asfortranarray(design[fit] - middle)
        largest = np.abs(centred.T @ (values[fit] - mean)).max() / len(fit)
        candidates = np.geomspace(largest, self._smallest * largest, self._penalties)
        penalties, weights, _ = lasso_path(centred, values[fit] - mean, alphas=candidates)
        predicted = (design[choose] - middle) @ weights + mean
        best = penalties[np.argmin(((predicted - values[choose, None]) ** 2).mean(axis=0))]
        return Lasso(alpha=best).fit(design, values).coef_
