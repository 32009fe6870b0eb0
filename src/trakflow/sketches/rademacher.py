"""The dense Rademacher projection: entries +1 or -1, a bit each."""

import importlib.util

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import DeviceError
from trakflow.seeds import derive_seed
from trakflow.sketches.dense import DenseProjection
from trakflow.sketches.philox import MASK, random_bits


class RademacherProjection(DenseProjection):
    """Signs from Philox4x32-10 at counter (row, column // 128): the same matrix on every device, to the last sign.

    On a CUDA device a Triton kernel generates and multiplies them at once; on a CPU numba generates blocks and torch
    multiplies by them; `random_bits` is the definition of both, and what any other device uses.
    """

    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop."""
        seed = self._parameter_seed(name)
        if device.type != "cpu":
            return random_bits(torch.arange(start, stop, device=device), self.k, seed).to(torch.float32).mul_(2).sub_(1)
        # numba takes a third of a second to import; only jobs that draw signs on a CPU should pay.
        from trakflow.sketches.rademacher_numba import fill_signs

        signs = np.empty((stop - start, self.k), dtype=np.float32)
        fill_signs(signs.view(np.uint32), start, seed & MASK, seed >> 32)
        return torch.from_numpy(signs)

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Multiply one parameter's gradients by its matrix.

        Raises:
            DeviceError: They are on a CUDA device and triton is not installed.
        """
        if gradients.device.type != "cuda":
            super().add(features, name, gradients)
            return
        require_triton()
        from trakflow.sketches.rademacher_triton import project

        project(features, gradients, self._parameter_seed(name))

    def _parameter_seed(self, name: str) -> int:
        return derive_seed(self._seed, "rademacher", name)


def require_triton() -> None:
    """Check that the GPU's kernel can be compiled.

    Raises:
        DeviceError: triton is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        raise DeviceError(
            "sketch=rademacher on a GPU is a Triton kernel, and triton is not installed although torch sees the GPU. "
            "torch's CUDA builds for Linux bring it: reinstall torch, or `pip install triton`; or use sketch=sjlt, or "
            "runtime.device=cpu (the same matrix, slower)."
        )
