"""The paper's CUDA projector, from the package fast_jl: a dense Rademacher matrix of its own, on tensor cores."""

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
BATCH = 8
MAX_BATCH = 32


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
    """Calls the kernel, padding k to a multiple of 512 and batches to 8, 16 or 32 as it wants them.

    Args:
        sizes: Number of entries of each parameter.
        k: Number of features, any.
        seed: Names the matrix; it is another one than that of `rademacher`.
        device: A CUDA device.
    """

    def __init__(self, sizes: Mapping[str, int], k: int, seed: int, device: torch.device | str):
        self._package = require_fast_jl(device)
        self.k = k
        self._padded_k = -(-k // K_MULTIPLE) * K_MULTIPLE
        self._seeds = {name: derive_seed(seed, "fast_jl", name) % 2**31 for name in sizes}
        self._multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Project one parameter's gradients, a slice of the batch at a time."""
        for start in range(0, len(gradients), MAX_BATCH):
            part = gradients[start : start + MAX_BATCH]
            size = next(size for size in (BATCH, 2 * BATCH, MAX_BATCH) if size >= len(part))
            padded = functional.pad(part, (0, 0, 0, size - len(part))).contiguous()
            kernel = getattr(self._package, f"project_rademacher_{size}")
            projected = kernel(padded, self._padded_k, self._seeds[name], self._multiprocessors)
            # Entries of the kernel's matrix are +1 and -1; the first k columns are a projection of their own.
            features[start : start + len(part)].add_(projected[: len(part), : self.k], alpha=self.k**-0.5)
