"""Random scores: what a method must beat."""

import numpy as np
from jaxtyping import Float

from trakflow.methods.base import PlainMethod
from trakflow.seeds import generator


class RandomScores(PlainMethod):
    """Independent standard normal scores, the same for the same seed."""

    def scores(self, n: int, m: int, seed: int) -> Float[np.ndarray, "n m"]:
        """Draw them."""
        return generator(seed, "random scores").standard_normal((n, m))
