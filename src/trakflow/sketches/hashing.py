"""Count sketches by a hash of rows and a hash of columns: entry (r, c) goes to feature (h1(r) + h2(c)) mod k.

On a CPU compiled kernels run, on other devices torch's scatter; both compute the same sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trakflow.seeds import generator
from trakflow.sketches import scatter


@dataclass(frozen=True)
class Hash:
    """Random feature and sign of each row, or of each column, of one parameter.

    Attributes:
        index: In [0, k), int32.
        sign: +1 or -1, float32.
    """

    index: Int[Tensor, " size"]
    sign: Float[Tensor, " size"]

    @classmethod
    def draw(cls, size: int, k: int, device: torch.device, *seed: int | str) -> "Hash":
        """Draw the hash that the seed names: the same on every device."""
        random = generator(*seed)
        index = torch.from_numpy(random.integers(0, k, size, dtype="int32"))
        sign = torch.from_numpy(random.integers(0, 2, size, dtype="int8")).mul_(2).sub_(1).float()
        return cls(index.to(device), sign.to(device))

    @classmethod
    def trivial(cls, device: torch.device) -> "Hash":
        """Of the single column of a vector."""
        return cls(torch.zeros(1, dtype=torch.int32, device=device), torch.ones(1, device=device))

    def part(self, first: int, size: int) -> "Hash":
        """Some of the rows."""
        return Hash(self.index[first : first + size], self.sign[first : first + size])


def add_count_sketch(features: Float[Tensor, "rows k"], values: Float[Tensor, "rows size"], by: Hash) -> None:
    """Sketch vectors, in place: to feature j of a row the signed entries are added that hash to j."""
    if features.device.type == "cpu":
        scatter.add_count_sketch(features, values, by.index, by.sign)
    else:
        features.index_add_(1, by.index.long(), values * by.sign.to(values.dtype))


def scatter_matrices(
    features: Float[Tensor, "batch k"], matrices: Sequence[Float[Tensor, "rows columns"]], rows: Hash, columns: Hash
) -> None:
    """Add the sketch of one matrix an example to the features, in place."""
    if features.device.type == "cpu":
        scatter.scatter_matrices(features, matrices, (rows.index, rows.sign), (columns.index, columns.sign))
        return
    index = _index(rows, columns, features.shape[1])
    sign = torch.outer(rows.sign, columns.sign).flatten().to(features.dtype)
    for own, matrix in zip(features, matrices, strict=True):
        own.index_add_(0, index, matrix.reshape(-1) * sign)


def scatter_products(
    features: Float[Tensor, "batch k"],
    left: Float[Tensor, "batch rows"],
    right: Float[Tensor, "batch columns"],
    rows: Hash,
    columns: Hash,
) -> None:
    """Add the sketch of one rank-one matrix left x right an example, in place."""
    if features.device.type == "cpu":
        scatter.scatter_products(features, left, right, (rows.index, rows.sign), (columns.index, columns.sign))
        return
    products = (left * rows.sign.to(left.dtype)).unsqueeze(2) * (right * columns.sign.to(right.dtype)).unsqueeze(1)
    features.index_add_(1, _index(rows, columns, features.shape[1]), products.flatten(1))


def scatter_lookups(
    features: Float[Tensor, "batch k"],
    indices: Int[Tensor, "batch positions"],
    values: Float[Tensor, "batch positions columns"],
    rows: Hash,
    columns: Hash,
) -> None:
    """Add the sketch of the matrices whose row indices[p] is the sum of values[p], in place."""
    k = features.shape[1]
    signed = values * columns.sign.to(values.dtype) * rows.sign[indices].to(values.dtype).unsqueeze(-1)
    index = (rows.index[indices].long().unsqueeze(-1) + columns.index.long()).remainder_(k)
    features.scatter_add_(1, index.flatten(1), signed.flatten(1))


def _index(rows: Hash, columns: Hash, k: int) -> Int[Tensor, " entries"]:
    return (rows.index.long().unsqueeze(1) + columns.index.long()).remainder_(k).flatten()
