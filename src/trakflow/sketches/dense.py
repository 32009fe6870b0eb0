"""Dense random projections whose matrices are generated block by block and never stored."""

import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.sketches.base import Projection

# 4 MiB: a block is still in the processor's cache when it is multiplied, and a small layer has work for several threads.
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
        """Rows start to stop of a parameter's matrix, entries of variance 1; called from several threads at once."""

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Multiply one parameter's gradients by its matrix, block by block."""
        scale = self.k**-0.5
        start = 0
        for matrix in self._blocks(name, gradients.device):
            stop = start + len(matrix)
            features.addmm_(gradients[:, start:stop], matrix, alpha=scale)
            start = stop

    def _blocks(self, name: str, device: torch.device) -> Iterator[Float[Tensor, "rows k"]]:
        """Every block in order; as many are drawn at once as torch may use threads."""
        size = self._sizes[name]
        starts = range(0, size, self._rows)
        threads = torch.get_num_threads()
        for first in range(0, len(starts), threads):
            chosen = [(start, min(start + self._rows, size)) for start in starts[first : first + threads]]
            if len(chosen) == 1:
                yield self.block(name, *chosen[0], device)
            else:
                # Drawing releases the interpreter's lock. All are drawn before one is multiplied, so that the
                # multiplication has every core.
                yield from list(_pool(threads).map(lambda rows: self.block(name, *rows, device), chosen))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
