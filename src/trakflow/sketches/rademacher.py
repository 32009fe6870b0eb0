"""The dense Rademacher projection: entries +1 or -1, a bit each."""

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.seeds import derive_seed
from trakflow.sketches.dense import DenseProjection
from trakflow.sketches.philox import random_bits


class RademacherProjection(DenseProjection):
    """Signs from Philox4x32-10 at counter (row, column // 128): the same matrix on every device, to the last sign."""

    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop."""
        rows = torch.arange(start, stop, device=device)
        bits = random_bits(rows, self.k, derive_seed(self._seed, "rademacher", name))
        return bits.to(torch.float32).mul_(2).sub_(1)
