"""The features of one checkpoint, a file a shard: written whole, read in verified blocks, never held together."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trakflow.errors import NumericalError, StoreError
from trakflow.kernel import Rows, gram
from trakflow.sketches.base import SketchedBatch
from trakflow.store.array_file import ArrayFile, require_agreement, write_arrays

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

# What a shard may hold of each example beside these, and its shape: by what a TRAKer knows an example again.
MORE = {"hashes": (2, 16)}


def stored_features(features: Float32[Tensor, "rows k"], dtype: str) -> Float[np.ndarray, "rows k"]:
    """Bring features to their storage type.

    Args:
        features: Of some examples.
        dtype: `float32` or `float16`.

    Raises:
        NumericalError: They do not fit the type's range.
    """
    with np.errstate(over="ignore"):  # an overflow is an error below, with a sentence
        stored = features.numpy().astype(dtype, copy=False)
    if not np.isfinite(stored).all():
        raise NumericalError(
            f"Features overflow {dtype}; set sketch.dtype=float32 (with TRAKer: use_half_precision=False)."
        )
    if dtype == "float16":
        largest = np.abs(stored).max(axis=1, initial=0)
        if ((largest < np.finfo(np.float16).tiny) & features.numpy().any(axis=1)).any():
            raise NumericalError(
                "Features of some examples are so small that float16 keeps few or none of their digits; set "
                "sketch.dtype=float32 (with TRAKer: use_half_precision=False)."
            )
    return stored


def write_shard(
    path: Path | str,
    found: SketchedBatch,
    stored: Float[np.ndarray, "rows k"],
    weighted: bool,
    facts: Mapping[str, Any],
    more: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write one shard's features, Q, W and outputs, and its Gram matrix where it has at least k rows.

    Args:
        path: Where to.
        found: The shard's examples, on the CPU.
        stored: Its features by `stored_features`.
        weighted: Whether W weights the rows of the Gram matrix.
        facts: Provenance: `SAME_IN_ALL_SHARDS`, `start`, `stop` and `seconds`.
        more: Arrays to keep beside them, by `MORE`.

    Raises:
        StoreError: The file cannot be written.
    """
    arrays = {"features": stored, "outputs": found.outputs.numpy(), "loss_gradients": found.loss_gradients.numpy()}
    if found.curvatures is not None:
        arrays["curvatures"] = found.curvatures.numpy()
    made = None
    if len(stored) >= stored.shape[1]:
        weights = found.curvatures if weighted else None
        # Of the features as stored, so that a Gram matrix computed from the file later is the same.
        arrays["gram"] = gram([(0, torch.from_numpy(stored).float(), weights)], stored.shape[1]).numpy()
        made = "on" if weighted else "off"
    write_arrays(path, {**arrays, **(more or {})}, {**facts, "gram_weights": made})


def _require_shard(file: ArrayFile) -> None:
    """Refuse an array file that is no shard of features, whatever it says of itself.

    Raises:
        StoreError: A fact is missing, or an array is not of the shape that the facts say.
    """
    facts = file.provenance
    whole = all(type(facts.get(key)) is int for key in ("start", "stop", "total", "k")) and isinstance(
        facts.get("seconds"), float | int
    )
    if whole:
        rows, k = facts["stop"] - facts["start"], facts["k"]
        shapes = {"features": (rows, k), "gram": (k, k), **{name: (rows, *shape) for name, shape in MORE.items()}}
        whole = {"features", "loss_gradients"} <= set(file.names) and all(
            file.shape(name) == shapes.get(name, (rows,)) for name in file.names
        )
    if not whole:
        raise StoreError(f"{file.path} is no shard of features. Delete it and run the same command again.")


class FeatureSet:
    """Phi, Q and W of one checkpoint.

    Args:
        paths: Its shards, in any order.
        weighted: Whether `rows` yields W.

    Raises:
        StoreError: The shards disagree in what made them, overlap or leave a gap.
    """

    def __init__(self, paths: Sequence[Path | str], weighted: bool):
        files = [ArrayFile(path) for path in paths]
        for file in files:
            _require_shard(file)
        self.files = sorted(files, key=lambda file: file.provenance["start"])
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
        return self.column("loss_gradients", first, last)

    def column(self, name: str, first: int = 0, last: int | None = None) -> Float32[np.ndarray, " rows"]:
        """One number for each of the training examples [first, last), by default of all.

        Args:
            name: `loss_gradients`, `curvatures` or `outputs`.
            first: The first example.
            last: The one after the last.
        """
        last = self.n if last is None else last
        found = np.empty(last - first, np.float32)
        for file in self.files:
            for start, block in self._blocks(file, name, first, last):
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
