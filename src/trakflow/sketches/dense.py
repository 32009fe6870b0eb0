"""Dense random projections whose matrices are generated block by block and never stored."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.sketches.base import Projection

# 4 MiB: a block is still in the processor's cache when it is multiplied.
BLOCK_ENTRIES = 1 << 20


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
        # A function of k alone: the blocks must depend on neither the batch nor the number of threads.
        self._rows = max(1, BLOCK_ENTRIES // k)

    @abstractmethod
    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop of a parameter's matrix, entries of variance 1."""

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Multiply one parameter's gradients by its matrix, block by block."""
        scale = self.k**-0.5
        size = self._sizes[name]
        rows = [(start, min(start + self._rows, size)) for start in range(0, size, self._rows)]
        blocks = self._blocks(name, rows, gradients.device)
        for (start, stop), matrix in zip(rows, blocks, strict=True):
            features.addmm_(gradients[:, start:stop], matrix, alpha=scale)

    def _blocks(
        self, name: str, rows: Sequence[tuple[int, int]], device: torch.device
    ) -> Iterator[Float[Tensor, "rows k"]]:
        """The blocks of these rows, in order; a projection that is slow to draw may draw several at once."""
        return (self.block(name, start, stop, device) for start, stop in rows)
