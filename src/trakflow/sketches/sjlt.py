"""The sparse Johnson-Lindenstrauss transform (Kane & Nelson 2014, block construction)."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8, Int64, UInt32
from torch import Tensor

from trakflow.seeds import generator
from trakflow.sketches.base import Projection

# Additions for which torch takes about as much longer as it takes to import numba and load the kernel: half a second.
COMPILED_FROM = 1 << 28
# What the package's CUDA kernel holds a thread's hashes in; beyond it, it would write over its stack.
PACKAGE_NONZEROS = 16
# The package's CUDA kernel counts entries of its arguments in 32 bits.
PACKAGE_ENTRIES = 2**31 - 1


class SparseProjection(Projection):
    """Each gradient entry is added, with a random sign, to one feature of each of `nonzeros` blocks.

    One pass over the gradients, without a multiplication by a matrix. E<Px, Py> = <x, y>. On a CPU torch adds until
    there has been so much to add that the compiled kernel (trakflow.sketches.sjlt_kernels) makes up for being loaded;
    the sums are the same to the last bit. On a GPU the kernel of the package sjlt adds where it is installed and built,
    and is given this matrix in place of its own; or else torch.

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
        self._device = torch.device(device)
        self._hashes: dict[tuple[str, str], Any] = {}
        self._additions = 0

    def _draw(self, name: str) -> tuple[Int64[np.ndarray, "nonzeros size"], Int64[np.ndarray, "nonzeros size"]]:
        """Draw the feature of every entry of a parameter, and 1 for a positive sign or 0 for a negative one."""
        random = generator(self._seed, "sjlt", name)
        shape = (self._nonzeros, self._sizes[name])
        block = self.k // self._nonzeros
        feature = random.integers(0, block, shape)
        feature += block * np.arange(self._nonzeros)[:, None]
        return feature, random.integers(0, 2, shape)

    def _codes(self, name: str) -> UInt32[np.ndarray, "nonzeros size"]:
        """Twice the feature, plus 1 where the sign is negative: all that is read of an entry's hash, in four bytes."""
        feature, positive = self._draw(name)
        feature *= 2
        feature += 1
        feature -= positive
        return feature.astype(np.uint32)

    def _features_and_signs(self, name: str) -> tuple[Int64[Tensor, "nonzeros size"], Int8[Tensor, "nonzeros size"]]:
        feature, positive = self._draw(name)
        signs = torch.from_numpy(2 * positive - 1).to(self._device, torch.int8)
        return torch.from_numpy(feature).to(self._device), signs

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Scatter one parameter's gradients, added up in the type of the features.

        Raises:
            ValueError: The shapes are not those that the parameter and k give.
        """
        if gradients.shape != (len(features), self._sizes[name]) or features.shape[1] != self.k:
            raise ValueError(
                f"Gradients by {name} have shape {tuple(gradients.shape)} and features {tuple(features.shape)}; "
                f"expected (batch, {self._sizes[name]}) and (batch, {self.k})."
            )
        gradients = gradients.to(features.dtype)
        if self._compiled_by_now(gradients.numel()):
            self._add_compiled(features, name, gradients)
        elif self._by_package(features.dtype):
            self._add_by_package(features, name, gradients)
        else:
            self._add_by_torch(features, name, gradients)

    def _by_package(self, dtype: torch.dtype) -> bool:
        # Its kernel scales by 1/sqrt(nonzeros) in float32 whatever the gradients are.
        fits = dtype == torch.float32 and self._nonzeros <= PACKAGE_NONZEROS
        return self._device.type == "cuda" and fits and package_is_built()

    def _compiled_by_now(self, entries: int) -> bool:
        if self._device.type != "cpu":
            return False
        before = self._additions
        self._additions += entries * self._nonzeros
        if before < COMPILED_FROM <= self._additions:
            self._hashes.clear()  # of no more use: the kernel reads them packed
        return self._additions >= COMPILED_FROM

    def _remembered(self, way: str, name: str, make: Callable[[], Any]) -> Any:
        if (way, name) not in self._hashes:
            self._hashes[way, name] = make()
        return self._hashes[way, name]

    def _add_compiled(self, features: Tensor, name: str, gradients: Tensor) -> None:
        from trakflow.sketches.sjlt_kernels import add_signed

        codes = self._remembered("compiled", name, lambda: self._codes(name))
        sums = features.detach().contiguous()
        rows = gradients.detach().contiguous()
        add_signed(sums.numpy(), rows.numpy(), codes, self._nonzeros**-0.5, torch.get_num_threads())
        if sums.data_ptr() != features.data_ptr():
            features.copy_(sums)

    def _add_by_package(self, features: Tensor, name: str, gradients: Tensor) -> None:
        project = self._remembered("package", name, lambda: self._package_projection(name, gradients.device))
        rows = max(1, PACKAGE_ENTRIES // max(self._sizes[name], self.k))
        for start in range(0, len(gradients), rows):
            features[start : start + rows] += project(gradients[start : start + rows].contiguous())

    def _package_projection(self, name: str, device: torch.device) -> Any:
        import sjlt

        # It draws a matrix of its own from the global generators, which others may have seeded.
        with torch.random.fork_rng(devices=[device]):
            projection = sjlt.SJLTProjection(self._sizes[name], self.k, c=self._nonzeros, device=device)
        feature, sign = self._features_and_signs(name)
        projection.rand_indices.copy_(feature.T)
        projection.rand_signs.copy_(sign.T)
        return projection

    def _add_by_torch(self, features: Tensor, name: str, gradients: Tensor) -> None:
        hashes = self._remembered("torch", name, lambda: self._features_and_signs(name))
        for feature, sign in zip(*hashes, strict=True):
            # Not by `alpha`, which is multiplied and added in one rounding: the compiled kernel rounds twice.
            features.index_add_(1, feature, gradients * (sign.to(features.dtype) * self._nonzeros**-0.5))


def package_is_built() -> bool:
    """Whether the package sjlt is installed with its CUDA kernel; it can be installed without."""
    if importlib.util.find_spec("sjlt") is None:
        return False
    import sjlt

    return bool(sjlt.EXTENSION_AVAILABLE)
