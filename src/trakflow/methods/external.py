"""Scores made elsewhere, named by a file, so that they are evaluated beside the others."""

import numpy as np
from jaxtyping import Float

from trakflow.data.arrays import read_array
from trakflow.errors import DataError
from trakflow.methods.base import PlainMethod


class External(PlainMethod):
    """Reads scores from a file.

    Args:
        path: A .npy of n training examples x m targets; positive means that the example raises the target's output.
    """

    def __init__(self, path: str):
        self._path = path

    def scores(self, n: int, m: int, seed: int) -> Float[np.ndarray, "n m"]:
        """Read them.

        Raises:
            DataError: The file is missing, no plain array, of another shape, or holds NaN or Inf.
        """
        scores = read_array(self._path, "path of an external method")
        if scores.shape != (n, m) or scores.dtype.kind not in "fiu":
            raise DataError(
                f"{self._path} holds {scores.dtype} of shape {scores.shape}; expected numbers of shape ({n}, {m}), a "
                "row a training example and a column a target."
            )
        if not np.isfinite(scores).all():
            raise DataError(f"{self._path} holds NaN or Inf; repair those scores.")
        return scores.astype(np.float64)
