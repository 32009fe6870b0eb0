"""Count sketches by a hash of rows and a hash of columns: entry (r, c) goes to feature (h1(r) + h2(c)) mod k.

h1 is random, one row in each of as many equal parts of the features as there are rows: of few rows none meet in full,
which would be rare but costly for gradients of rank one. h2(c) = c mod k: a row is added to consecutive features, many
times as fast as to scattered ones. Both have random signs, which alone make inner products right on average.

On a CPU compiled kernels run once there has been enough to add, and before that torch's scatter: the same additions in
the same order, so the same bits. On an NVIDIA GPU Triton kernels gather what goes to each feature, for a whole batch at
once; vectors and embeddings, which are small, and everything on other devices go through torch's scatter, which adds in
any order there.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trakflow.devices import starts_at_once
from trakflow.seeds import generator
from trakflow.sketches import scatter

if TYPE_CHECKING:
    from trakflow.sketches.scatter_triton import RowRanges

# A large matrix is cut into this many groups of rows with sums of their own, whatever the number of threads.
PARTS = 4
LARGE = 1 << 16
# On a GPU the rows of a block of features are divided among programs of so many, so that a small batch keeps it busy,
# too: by the layer alone, as the order of the sums is.
ROWS_EACH = 64


@dataclass(frozen=True)
class Hash:
    """Feature and random sign of each row, or of each column, of one parameter.

    Attributes:
        index: In [0, k), int32.
        sign: +1 or -1, float32.
    """

    index: Int[Tensor, " size"]
    sign: Float[Tensor, " size"]
    # What follows from these two and is asked for again with every batch.
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def draw(cls, size: int, k: int, device: torch.device, *seed: int | str) -> "Hash":
        """Draw the hash that the seed names: the same on every device."""
        random = generator(*seed)
        places = (random.permutation(size) + random.random(size)) * (k / size)
        index = torch.from_numpy(places.astype("int32")).clamp_(max=k - 1)
        return cls(index.to(device), _signs(random, size).to(device))

    def part(self, first: int, size: int) -> "Hash":
        """Some of the rows."""
        if size == len(self.index):
            return self
        own = slice(first, first + size)
        return self._once((first, size), lambda: Hash(self.index[own], self.sign[own]))

    def ranges(self, columns: int, k: int) -> "RowRanges":
        """Which rows the kernels of a GPU read where, for rows of so many columns."""
        ranges = _triton_kernels().RowRanges
        return self._once(("ranges", columns, k), lambda: ranges.of(self.index, self.sign, columns, k))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


@dataclass(frozen=True)
class ColumnHash(Hash):
    """Consecutive features, beginning again after k of them."""

    @classmethod
    def draw(cls, size: int, k: int, device: torch.device, *seed: int | str) -> "ColumnHash":
        """Draw the signs that the seed names: the same on every device."""
        index = torch.arange(size, dtype=torch.int32).remainder_(k)
        return cls(index.to(device), _signs(generator(*seed), size).to(device))

    @classmethod
    def trivial(cls, device: torch.device) -> "ColumnHash":
        """Of the single column of a vector."""
        return cls(torch.zeros(1, dtype=torch.int32, device=device), torch.ones(1, device=device))


def _signs(random: np.random.Generator, size: int) -> Float[Tensor, " size"]:
    return torch.from_numpy(random.integers(0, 2, size, dtype="int8")).mul_(2).sub_(1).float()


def add_count_sketch(features: Float[Tensor, "rows k"], values: Float[Tensor, "rows size"], by: Hash) -> None:
    """Sketch vectors, in place: to feature j of a row the signed entries are added that hash to j."""
    if isinstance(by, ColumnHash):
        k = features.shape[1]
        for signed, sign in zip(values.split(k, dim=1), by.sign.to(values.dtype).split(k), strict=True):
            features[:, : len(sign)].addcmul_(signed, sign)
    elif scatter.compiled_by_now(features.device, values.numel()):
        scatter.add_count_sketch(features, values, by.index, by.sign)
    else:
        features.index_add_(1, by.index, values * by.sign.to(values.dtype))


def scatter_matrices(
    features: Float[Tensor, "batch k"],
    matrices: Sequence[Float[Tensor, "rows columns"]] | Float[Tensor, "batch rows columns"],
    rows: Hash,
    columns: ColumnHash,
) -> None:
    """Add the sketch of one matrix an example to the features, in place."""
    if starts_at_once(features.device):
        _scatter_one_by_one(features, matrices, rows, columns)
        return
    batch = matrices if isinstance(matrices, Tensor) else torch.stack(list(matrices))
    if has_triton_kernels(features.device):
        ranges = rows.ranges(len(columns.sign), features.shape[1])
        _triton_kernels().scatter_matrices(features, batch, ranges, columns.sign)
    else:
        signs = torch.outer(rows.sign, columns.sign).to(features.dtype)
        features.index_add_(1, _index(rows, columns, features.shape[1]), (batch * signs).flatten(1))


def _scatter_one_by_one(
    features: Float[Tensor, "batch k"],
    matrices: Sequence[Float[Tensor, "rows columns"]] | Float[Tensor, "batch rows columns"],
    rows: Hash,
    columns: ColumnHash,
) -> None:
    k, entries = features.shape[1], len(rows.index) * len(columns.index)
    parts = PARTS if entries >= LARGE else 1
    # Twice k long: a sum of two indices needs no remainder until the end.
    totals = features.new_zeros(parts, len(matrices), 2 * k)
    bounds = [len(rows.index) * part // parts for part in range(parts + 1)]
    cuts = [slice(start, stop) for start, stop in pairwise(bounds)]
    if scatter.compiled_by_now(features.device, len(matrices) * entries):
        scatter.scatter_matrices(totals, cuts, list(matrices), (rows.index, rows.sign), columns.sign)
    else:
        for cut, own in zip(cuts, totals, strict=True):
            index = (rows.index[cut].long().unsqueeze(1) + columns.index.long()).flatten()
            sign = torch.outer(rows.sign[cut], columns.sign).flatten().to(features.dtype)
            for total, matrix in zip(own, matrices, strict=True):
                total.index_add_(0, index, matrix[cut].reshape(-1) * sign)
    for total in totals:
        features += total[:, :k]
        features += total[:, k:]


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    rows: Hash,
    columns: ColumnHash,
) -> None:
    """Add the sketch of one rank-one matrix left x right an example, in place."""
    if scatter.compiled_by_now(features.device, left.numel() * right.shape[1]):
        scatter.scatter_products(features, left, right, (rows.index, rows.sign), columns.sign)
    elif has_triton_kernels(features.device):
        ranges = rows.ranges(len(columns.sign), features.shape[1])
        _triton_kernels().scatter_products(features, left, right, ranges, columns.sign)
    else:
        products = (left * rows.sign.to(left.dtype)).unsqueeze(2) * (right * columns.sign.to(right.dtype)).unsqueeze(1)
        features.index_add_(1, _index(rows, columns, features.shape[1]), products.flatten(1))


def _index(rows: Hash, columns: ColumnHash, k: int) -> Int[Tensor, " entries"]:
    return (rows.index.long().unsqueeze(1) + columns.index.long()).remainder_(k).flatten()


@functools.cache
def has_triton_kernels(device: torch.device) -> bool:
    """Whether Triton kernels add on this device: they are compiled at their first use, for which they need a compiler.

    Where they cannot be, torch adds: the same sums in any order, and slower.
    """
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    try:
        _triton_kernels().try_on(device)
    except Exception as error:  # triton's own, the C compiler's, or the driver's
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"Triton cannot compile a kernel for {device} ({reason}), so torch's scatter is used, which is slower. "
            "Triton needs a C compiler, Python's headers, and a GPU that it supports.",
            stacklevel=2,
        )
        return False
    return True


@functools.cache
def _triton_kernels() -> Any:
    # Not installed with every build of torch.
    from trakflow.sketches import scatter_triton

    return scatter_triton


def scatter_lookups(
    features: Float[Tensor, "batch k"],
    indices: Int[Tensor, "batch positions"],
    values: Float[Tensor, "batch positions columns"],
    rows: Hash,
    columns: ColumnHash,
) -> None:
    """Add the sketch of the matrices whose row indices[p] is the sum of values[p], in place."""
    k = features.shape[1]
    signed = values * columns.sign.to(values.dtype) * rows.sign[indices].to(values.dtype).unsqueeze(-1)
    index = (rows.index[indices].long().unsqueeze(-1) + columns.index.long()).remainder_(k)
    features.scatter_add_(1, index.flatten(1), signed.flatten(1))
