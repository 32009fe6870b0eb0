"""No projection: the features are the gradients, for small models and for oracles."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from trakflow.sketches.base import Projection


class Identity(Projection):
    """Concatenates the gradients of all parameters.

    Args:
        sizes: Number of entries of each parameter, in order.
    """

    def __init__(self, sizes: Mapping[str, int]):
        self.k = sum(sizes.values())
        self._columns: dict[str, slice] = {}
        start = 0
        for name, size in sizes.items():
            self._columns[name] = slice(start, start + size)
            start += size

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Add the gradients in their own columns."""
        features[:, self._columns[name]] += gradients
