"""The dense Gaussian projection."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.seeds import generator
from trakflow.sketches.dense import DenseProjection
from trakflow.sketches.threads import pool

# Blocks that a thread draws in a row. OpenMP's threads go on spinning for some milliseconds after a multiplication, and
# would take the cores from threads that draw only one.
DRAWN_BY_A_THREAD = 4


class GaussianProjection(DenseProjection):
    """Standard normal entries from numpy's counter-based Philox generator, keyed by the block.

    Blocks are always drawn on the CPU, so that every device multiplies by the same matrix to the last bit.
    """

    def block(self, name: str, start: int, stop: int, device: torch.device) -> Float[Tensor, "rows k"]:
        """Rows start to stop; `start` is a multiple of the block's size and keys the stream."""
        random = generator(self._seed, "gaussian", name, start)
        return torch.from_numpy(random.standard_normal((stop - start, self.k), dtype=np.float32)).to(device)

    def _blocks(
        self, name: str, rows: Sequence[tuple[int, int]], device: torch.device
    ) -> Iterator[Float[Tensor, "rows k"]]:
        """Draw on as many threads as torch uses: drawing costs more than multiplying, and releases Python's lock."""
        threads = torch.get_num_threads()
        if threads == 1:
            yield from super()._blocks(name, rows, device)
            return
        at_once = threads * DRAWN_BY_A_THREAD

        def draw(own: tuple[int, int]) -> Tensor:
            return self.block(name, own[0], own[1], device)

        for first in range(0, len(rows), at_once):
            yield from list(pool().map(draw, rows[first : first + at_once]))
