"""The features of one checkpoint, over all its shards: read in verified blocks, never held whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from trakflow.errors import StoreError
from trakflow.kernel import Rows
from trakflow.store import ArrayFile, require_agreement

SAME_IN_ALL_SHARDS = (
    "stage",
    "version",
    "settings",
    "checkpoint",
    "checkpoint_content",
    "data_content",
    "gradients",
    "total",
    "k",
    "dtype",
)


class FeatureSet:
    """Phi, Q and W of one checkpoint.

    Args:
        paths: Its shards, in any order.
        weighted: Whether `rows` yields W.

    Raises:
        StoreError: The shards disagree in what made them, overlap or leave a gap.
    """

    def __init__(self, paths: Sequence[Path | str], weighted: bool):
        self.files = sorted((ArrayFile(path) for path in paths), key=lambda file: file.provenance["start"])
        self.weighted = weighted
        require_agreement(self.files, SAME_IN_ALL_SHARDS)
        expected = 0
        for file in self.files:
            if file.provenance["start"] != expected:
                raise StoreError(
                    f"{file.path} begins at example {file.provenance['start']} where {expected} was expected: a shard "
                    "is missing or of another layout. Delete the features of this checkpoint and run the same "
                    "command again."
                )
            expected = file.provenance["stop"]
        self.n, self.k = int(self.files[0].provenance["total"]), int(self.files[0].provenance["k"])
        if expected != self.n:
            raise StoreError(
                f"The shards up to {self.files[-1].path} end at example {expected} of {self.n}; the last ones are "
                "missing."
            )
        if weighted and "curvatures" not in self.files[0]:
            raise StoreError(f"{self.files[0].path} holds no curvature weights W; set solver.weights=off.")

    @property
    def provenance(self) -> dict:
        """What all shards have in common."""
        return {key: self.files[0].provenance[key] for key in SAME_IN_ALL_SHARDS}

    @property
    def seconds(self) -> float:
        """Time that featurizing took, over all shards."""
        return float(sum(file.provenance["seconds"] for file in self.files))

    @property
    def starts(self) -> list[int]:
        """First examples of the blocks in which Phi is read, ascending."""
        return [file.provenance["start"] + start for file in self.files for start in file.starts("features")]

    def loss_gradients(self, first: int = 0, last: int | None = None) -> Float32[np.ndarray, " rows"]:
        """Q of the training examples [first, last), by default of all."""
        last = self.n if last is None else last
        found = np.empty(last - first, np.float32)
        for file in self.files:
            for start, block in self._blocks(file, "loss_gradients", first, last):
                found[start - first : start - first + len(block)] = block
        return found

    def phi(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, Float32[Tensor, "rows k"]]]:
        """Yield (first row, Phi rows) of the training examples [first, last) in order.

        The rows' memory is used again for the next ones: copy what is to be kept.
        """
        for file in self.files:
            yield from self._phi(file, first, self.n if last is None else last)

    def rows(self) -> Rows:
        """Yield (first row, Phi rows as float32, W rows or None) in order; memory is used again as by `phi`."""
        for file in self.files:
            yield from self.rows_of(file)

    def rows_of(self, file: ArrayFile) -> Rows:
        """Yield what `rows` does, of one of the shards."""
        weights = torch.from_numpy(file.read("curvatures")) if self.weighted else None
        begin = file.provenance["start"]
        for start, features in self._phi(file, 0, self.n):
            own = None if weights is None else weights[start - begin : start - begin + len(features)]
            yield start, features, own

    def _phi(self, file: ArrayFile, first: int, last: int) -> Iterator[tuple[int, Tensor]]:
        # Fresh memory for every block would cost more than all else: the system clears each page of it first.
        buffer = torch.empty(0, self.k)
        for start, block in self._blocks(file, "features", first, last):
            stored = torch.from_numpy(block)
            if stored.dtype == torch.float32:
                yield start, stored
                continue
            if len(buffer) < len(stored):
                buffer = torch.empty(len(stored), self.k)
            yield start, buffer[: len(stored)].copy_(stored)

    def _blocks(self, file: ArrayFile, name: str, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, rows) of one array of one shard, as far as they lie in [first, last)."""
        begin, end = file.provenance["start"], file.provenance["stop"]
        if end <= first or begin >= last:
            return
        for start, block in file.blocks(name, max(first - begin, 0), last - begin):
            left, right = max(first - begin - start, 0), min(last - begin - start, len(block))
            yield begin + start + left, block[left:right]
