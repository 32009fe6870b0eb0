"""The dense Gaussian projection."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.seeds import generator
from trakflow.sketches.dense import DenseProjection


class GaussianProjection(DenseProjection):
    """Standard normal entries from numpy's counter-based Philox generator, keyed by the block.

    Blocks are always drawn on the CPU, so that every device multiplies by the same matrix to the last bit.
    """

    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop; `start` is a multiple of the block's size and keys the stream."""
        random = generator(self._seed, "gaussian", name, start)
        return torch.from_numpy(random.standard_normal((stop - start, self.k), dtype=np.float32)).to(device)
