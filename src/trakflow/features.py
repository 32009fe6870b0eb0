"""The features of one checkpoint, over all its shards: read in verified blocks, never held whole."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

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

    def loss_gradients(self) -> Float32[np.ndarray, " n"]:
        """Q of every training example."""
        return np.concatenate([file.read("loss_gradients") for file in self.files])

    def rows(self) -> Rows:
        """Yield (first row, Phi rows as float32, W rows or None) in order."""
        for file in self.files:
            weights = file.read("curvatures") if self.weighted else None
            for start, block in file.blocks("features"):
                features = torch.from_numpy(np.asarray(block)).float()
                own = None if weights is None else torch.from_numpy(weights[start : start + len(block)])
                yield file.provenance["start"] + start, features, own
