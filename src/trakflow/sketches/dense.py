"""Dense random projections whose matrices are generated block by block and never stored."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.sketches.base import Projection

BLOCK_ENTRIES = 1 << 23


class DenseProjection(Projection):
    """A matrix of independent entries of mean 0 and variance 1/k, a block of whole rows at a time.

    Args:
        sizes: Number of entries of each parameter.
        k: Number of features.
        seed: Names the matrix.
    """

    def __init__(self, sizes: Mapping[str, int], k: int, seed: int):
        self.k = k
        self._sizes = dict(sizes)
        self._seed = seed
        # A function of k alone: the blocks must not depend on the batch.
        self._rows = max(1, BLOCK_ENTRIES // k)

    @abstractmethod
    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop of a parameter's matrix, entries of variance 1."""

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Multiply one parameter's gradients by its matrix, block by block."""
        scale = self.k**-0.5
        for start in range(0, self._sizes[name], self._rows):
            stop = min(start + self._rows, self._sizes[name])
            matrix = self.block(name, start, stop, gradients.device)
            features.addmm_(gradients[:, start:stop], matrix, alpha=scale)
