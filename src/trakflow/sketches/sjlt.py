"""The sparse Johnson-Lindenstrauss transform (Kane & Nelson 2014, block construction)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.seeds import generator
from trakflow.sketches.base import Projection


class SparseProjection(Projection):
    """Each gradient entry is added, with a random sign, to one feature of each of `nonzeros` blocks.

    One pass over the gradients, without a multiplication by a matrix. E<Px, Py> = <x, y>.

    Args:
        sizes: Number of entries of each parameter.
        k: Number of features, a multiple of `nonzeros`.
        seed: Names the matrix.
        nonzeros: Features that each entry goes to, scaled by 1/sqrt(nonzeros).
        device: Where gradients will be.
    """

    def __init__(
        self, sizes: Mapping[str, int], k: int, seed: int, nonzeros: int = 1, device: torch.device | str = "cpu"
    ):
        self.k = k
        self._sizes = dict(sizes)
        self._seed = seed
        self._nonzeros = nonzeros
        self._device = device
        self._hashes: dict[str, tuple[Tensor, Tensor]] = {}

    def _hash(self, name: str) -> tuple[Tensor, Tensor]:
        """Feature index and scaled sign of every entry of a parameter, each (nonzeros x size)."""
        if name not in self._hashes:
            random = generator(self._seed, "sjlt", name)
            shape = (self._nonzeros, self._sizes[name])
            block = self.k // self._nonzeros
            index = torch.from_numpy(random.integers(0, block, shape))
            index += block * torch.arange(self._nonzeros).unsqueeze(1)
            sign = torch.from_numpy(random.integers(0, 2, shape)).mul_(2).sub_(1).float() / self._nonzeros**0.5
            self._hashes[name] = (index.to(self._device), sign.to(self._device))
        return self._hashes[name]

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Scatter one parameter's gradients."""
        for index, sign in zip(*self._hash(name), strict=True):
            features.index_add_(1, index, gradients * sign)
