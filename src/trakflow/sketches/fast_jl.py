"""The paper's CUDA projector, from the package fast_jl: a dense Rademacher matrix of its own, on tensor cores.

Its kernels multiply in float16 and accumulate in float32. What they take, from the package's source: a contiguous CUDA
matrix (batch x size) of float16 or float32, a number of features that is a multiple of 512, a 32-bit seed, and the
number of tiles that the size is cut into. Column j of the matrix is a function of the seed, the size, the tiles and j
alone, so the first k columns are the same whatever k is padded to, and examples do not depend on the batch.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trakflow.errors import DeviceError
from trakflow.seeds import derive_seed
from trakflow.sketches.base import Projection

K_MULTIPLE = 512
BATCHES = (8, 16, 32)
# Part of what names the matrix. traker passes the GPU's number of multiprocessors, with which a second GPU model would
# project by another matrix; this number keeps every model busy.
TILES = 128
# The kernels count entries of a batch in 32 bits.
MAX_SIZE = 1 << 26


def require_fast_jl(device: torch.device | str) -> Any:
    """Return the package, or say what is missing.

    Raises:
        DeviceError: The device is no GPU, there is none, or the package is not installed.
    """
    other = "use sketch=rademacher (a dense matrix on any device) or sketch=sjlt"
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        found = "one is there: set runtime.device=cuda" if torch.cuda.is_available() else "no NVIDIA GPU is visible"
        raise DeviceError(f"sketch=fast_jl is a CUDA kernel, but runtime.device is {device} and {found}; or {other}.")
    if importlib.util.find_spec("fast_jl") is None:
        raise DeviceError(
            "sketch=fast_jl needs the package fast_jl, which is not installed: `pip install --no-build-isolation "
            f"fast_jl` with a CUDA 11 or 12 toolchain; or {other}."
        )
    import fast_jl

    return fast_jl


class FastJLProjection(Projection):
    """Calls the kernels, with k padded to a multiple of 512 and batches split and padded to 8, 16 or 32.

    Args:
        sizes: Number of entries of each parameter.
        k: Number of features, any.
        seed: Names the matrix; it is another one than that of `rademacher`.
        device: A CUDA device; not looked at where `package` is given.
        package: The module that has the kernels; the installed fast_jl if None.

    Raises:
        DeviceError: There is no such device, or the package is not installed.
    """

    def __init__(
        self, sizes: Mapping[str, int], k: int, seed: int, device: torch.device | str, package: Any | None = None
    ):
        self._package = package or require_fast_jl(device)
        self.k = k
        self._padded_k = -(-k // K_MULTIPLE) * K_MULTIPLE
        self._sizes = dict(sizes)
        self._seed = seed

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Project one parameter's gradients, a slice of the batch and of the entries at a time."""
        for start in range(0, self._sizes[name], MAX_SIZE):
            seed = derive_seed(self._seed, "fast_jl", name, start) % 2**31
            for first in range(0, len(gradients), BATCHES[-1]):
                own = slice(first, first + BATCHES[-1])
                features[own] += self._project(gradients[own, start : start + MAX_SIZE], seed)

    def _project(self, gradients: Float[Tensor, "batch size"], seed: int) -> Float[Tensor, "batch k"]:
        """Project at most 32 examples and `MAX_SIZE` entries."""
        exponents = _exponents(gradients)
        scaled = torch.ldexp(gradients, -exponents)
        count = len(gradients)
        batch = next(batch for batch in BATCHES if batch >= count)
        padded = functional.pad(scaled, (0, 0, 0, batch - count)).contiguous()
        # The kernels are launched on the current device, whichever their input is on.
        with torch.cuda.device_of(gradients):
            projected = getattr(self._package, f"project_rademacher_{batch}")(padded, self._padded_k, seed, TILES)
        # Entries of the kernel's matrix are +1 and -1.
        return torch.ldexp(projected[:count, : self.k], exponents) * self.k**-0.5


def _exponents(gradients: Float[Tensor, "batch size"]) -> Tensor:
    """Powers of two (batch x 1, int32) that bring each example's largest entry to about 1.

    Float16 would lose entries below 6e-8 and make those above 65,504 infinite. A power of two loses nothing.
    """
    largest = torch.linalg.vector_norm(gradients, ord=torch.inf, dim=1, keepdim=True)
    exponents = torch.frexp(largest).exponent
    # 2^exponent and its inverse must themselves be float32; NaN and Inf have no exponent and stay what they are.
    return torch.where(torch.isfinite(largest), exponents, torch.zeros_like(exponents)).clamp(-126, 126)
