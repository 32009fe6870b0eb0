"""A checkpoint that is in the model now, and the rows that are being made with it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from trakflow.sketches.base import Sketch, SketchedBatch
from trakflow.traker.batches import named_tensors, row_numbers
from trakflow.traker.hashes import row_hashes
from trakflow.traker.rows import Rows


@dataclass
class Loaded:
    """Takes batches, and makes those of their rows that are not there yet.

    Attributes:
        sketch: By the checkpoint's weights.
        try_batch: Runs the model on the first example of a batch, and refuses a model that cannot take it.
        rows: Of the training examples, or of one set of targets.
        total: How many there are to be.
        dtype: In which their features are kept.
        scoring: Whether they are targets.
        device: Where the model is.
        fields: Names of a batch's tensors in order; None for a task that takes any.
        batch_size: Examples that are sketched at a time; None for all of a batch.
        cursor: Number of the next example, where batches follow each other.
    """

    sketch: Sketch
    try_batch: Callable[[Mapping[str, Tensor]], object]
    rows: Rows
    total: int
    dtype: str
    scoring: bool
    device: torch.device
    fields: Sequence[str] | None
    batch_size: int | None
    cursor: int = 0
    _tried: bool = False

    def take(self, batch: Any, inds: Any, num_samples: int | None) -> None:
        """Make the rows of a batch.

        Args:
            batch: As `named_tensors` takes it.
            inds: Numbers of the examples, or None.
            num_samples: Or how many there are.

        Raises:
            ConfigError: The model cannot take an example.
            DataError: The batch does not fit, or an example is not the one that had its number before.
            NumericalError: A gradient is NaN or Inf.
        """
        tensors = named_tensors(batch, self.fields)
        size = len(next(iter(tensors.values())))
        what = "target" if self.scoring else "training example"
        rows = row_numbers(inds, num_samples, size, self.cursor, self.total, what)
        hashes = row_hashes(tensors)
        self.rows.check(rows, hashes)
        wanted = np.flatnonzero(self.rows.missing(rows))
        step = self.batch_size or size
        for start in range(0, len(wanted), step):
            chosen = wanted[start : start + step]
            began = time.perf_counter()
            found = self._sketched(tensors, size, chosen)
            self.rows.add(rows[chosen], hashes[chosen], found, self.dtype, time.perf_counter() - began)
        if num_samples is not None:
            self.cursor += size

    def _sketched(self, tensors: Mapping[str, Tensor], size: int, chosen: Int64[np.ndarray, " some"]) -> SketchedBatch:
        if len(chosen) < size:
            rows = torch.from_numpy(chosen)
            tensors = {name: value[rows.to(value.device)] for name, value in tensors.items()}
        batch = {name: value.to(self.device) for name, value in tensors.items()}
        if not self._tried:
            self.try_batch(batch)
            self._tried = True
        found = self.sketch(batch)
        return SketchedBatch(
            found.features.float().cpu(),
            found.outputs.cpu(),
            found.loss_gradients.cpu(),
            None if found.curvatures is None else found.curvatures.cpu(),
        )
