"""The ridge-regularised kernel (Phi^T W Phi + ridge I)^-1, factored once so that any ridge is a division.

Notation (paper, section 3): Phi is n x k, W the diagonal of curvature weights, G = Phi^T W Phi. With k <= n the
k x k matrix G is factored as V diag(s) V^T. With k > n the n x n matrix A A^T of A = W^(1/2) Phi is factored as
U diag(s) U^T instead, and

    (G + ridge I)^-1 T = (T - A^T U diag(1 / (s + ridge)) U^T A T) / ridge.

All arithmetic is float64. No inverse is ever formed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trakflow.errors import NumericalError
from trakflow.progress import progress

# Yields (first row, Phi rows, W rows) over all n rows in order, as often as it is called. What was yielded may be
# overwritten when the next is asked for.
Rows = Iterator[tuple[int, Float[Tensor, "rows k"], Float[Tensor, " rows"] | None]]
Stream = Callable[[], Rows]


# Rows of Phi that are converted to float64 at a time, and columns of a panel of the Gram matrix.
ROWS = 1024
COLUMNS = 256
# Bound on the rows that outer_gram holds while it passes over the features once.
PANEL_BYTES = 1 << 27


def gram(stream: Rows | Iterable, k: int) -> Float64[Tensor, "k k"]:
    """Accumulate Phi^T W Phi in float64: the lower triangle, panel by panel, mirrored at the end."""
    total = torch.zeros(k, k, dtype=torch.float64)
    for _, features, weights in stream:
        for start in range(0, len(features), ROWS):
            rows = features[start : start + ROWS].double()
            weighted = rows if weights is None else rows * weights[start : start + ROWS].double()[:, None]
            for column in range(0, k, COLUMNS):
                last = min(column + COLUMNS, k)
                total[column:last, :last].addmm_(weighted[:, column:last].T, rows[:, :last])
    return total.tril_().add_(total.tril(-1).T)


def outer_gram(stream: Stream, n: int) -> Float64[Tensor, "n n"]:
    """Compute W^(1/2) Phi Phi^T W^(1/2) in float64, a panel of rows against all rows up to it at a time."""
    total = torch.zeros(n, n, dtype=torch.float64)
    for first, panel in progress(_panels(stream()), "Gram matrix"):
        for second, right, weights in stream():
            if second >= first + len(panel):  # blocks come in order, and the matrix is symmetric
                break
            block = panel @ _weighted(right, weights).T
            total[first : first + len(panel), second : second + len(right)] = block
            total[second : second + len(right), first : first + len(panel)] = block.T
    return total


def _panels(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, W^(1/2) Phi of about PANEL_BYTES of rows in float64): fewer passes than block by block."""
    first, size = 0, 0
    held: list[Tensor] = []
    for start, features, weights in rows:
        own = _weighted(features, weights)
        if held and size + own.nbytes > PANEL_BYTES:
            yield first, torch.cat(held)
            first, held, size = start, [], 0
        held.append(own)
        size += own.nbytes
    if held:
        yield first, torch.cat(held)


def _weighted(features: Tensor, weights: Tensor | None) -> Tensor:
    """W^(1/2) Phi of some rows, float64."""
    rows = features.double()
    return rows if weights is None else rows * weights.double().sqrt()[:, None]


class Solution(NamedTuple):
    """What solving leaves of some columns C.

    Attributes:
        columns: (G + ridge I)^-1 C.
        cancellation: Of the column where it is largest, |A| |x| / |A x|: by how much products with x cancel, and so by
            how much they magnify what is rounded of x.
    """

    columns: Float64[Tensor, "k m"]
    cancellation: float


@dataclass(frozen=True)
class Kernel:
    """A factored Gram matrix.

    Attributes:
        eigenvalues: s, ascending, not negative.
        eigenvectors: V (k x k) or U (n x n), by columns.
        side: Which matrix was factored.
    """

    eigenvalues: Float64[Tensor, " rank"]
    eigenvectors: Float64[Tensor, "side rank"]
    side: Literal["features", "examples"]

    @property
    def mean_diagonal(self) -> float:
        """Mean diagonal entry of the factored matrix: trace(G) / min(n, k), the unit of a relative ridge."""
        return float(self.eigenvalues.mean())

    def ridge(self, value: float, unit: str) -> float:
        """Return the absolute ridge for a value in units of the mean diagonal (`relative`) or as it is (`absolute`)."""
        return value * self.mean_diagonal if unit == "relative" else value

    def require_solvable(self, ridge: float) -> None:
        """Refuse a system without a unique solution.

        Raises:
            NumericalError: The ridge is 0 and the k x k Gram matrix is singular to working precision.
        """
        if ridge > 0:
            return
        size, largest = len(self.eigenvalues), float(self.eigenvalues[-1])
        rank = int((self.eigenvalues > largest * size * torch.finfo(torch.float64).eps).sum())
        if self.side == "examples" or rank < size:
            reason = "k is larger than n" if self.side == "examples" else f"it has rank {rank} of {size}"
            raise NumericalError(
                f"With ridge 0 the Gram matrix must be invertible, but {reason}. Set solver.ridge to a positive "
                "number or auto, or choose a smaller sketch.k (with TRAKer: lambda_reg and proj_dim)."
            )

    def coordinates(self, columns: Float64[Tensor, "k m"], stream: Stream) -> Float64[Tensor, "rank m"]:
        """Return V^T C, or U^T A C, for columns C in feature space."""
        if self.side == "features":
            return self.eigenvectors.T @ columns
        total = torch.zeros(len(self.eigenvalues), columns.shape[1], dtype=torch.float64)
        for first, features, weights in stream():
            total += self.eigenvectors[first : first + len(features)].T @ (_weighted(features, weights) @ columns)
        return total

    def solve(self, columns: Float64[Tensor, "k m"], ridge: float, stream: Stream) -> Solution:
        """Solve (G + ridge I) x = c for each column of C.

        Raises:
            NumericalError: As `require_solvable`.
        """
        self.require_solvable(ridge)
        scaled = self.coordinates(columns, stream) / (self.eigenvalues + ridge)[:, None]
        if self.side == "features":
            return self._solution(self.eigenvectors @ scaled, scaled * self.eigenvalues.sqrt()[:, None])
        correction = torch.zeros_like(columns)
        for first, features, weights in stream():
            correction += _weighted(features, weights).T @ (self.eigenvectors[first : first + len(features)] @ scaled)
        return self._solution((columns - correction) / ridge, scaled)

    def _solution(self, solved: Float64[Tensor, "k m"], products: Float64[Tensor, "rank m"]) -> Solution:
        """Compare solved columns x with A x, which is given in the coordinates of the eigenvectors."""
        possible = self.eigenvalues.sum().sqrt() * torch.linalg.vector_norm(solved, dim=0)
        found = torch.linalg.vector_norm(products, dim=0)
        # A column of zeros has products of zero, rightly.
        return Solution(solved, float(torch.where(possible > 0, possible / found, 0.0).max()))


@dataclass(frozen=True)
class BilinearCurve:
    """L^T (G + ridge I)^-1 R as a function of the ridge, for fixed L (k x c) and R (k x m)."""

    kernel: Kernel
    left: Float64[Tensor, "rank c"]
    right: Float64[Tensor, "rank m"]
    product: Float64[Tensor, "c m"]

    @classmethod
    def of(
        cls, kernel: Kernel, left: Float64[Tensor, "k c"], right: Float64[Tensor, "k m"], stream: Stream
    ) -> "BilinearCurve":
        """Prepare the curve; reads the features only where the n x n side was factored."""
        return cls(kernel, kernel.coordinates(left, stream), kernel.coordinates(right, stream), left.T @ right)

    def at(self, ridge: float) -> Float64[Tensor, "c m"]:
        """Evaluate at an absolute ridge > 0."""
        quadratic = self.left.T @ (self.right / (self.kernel.eigenvalues + ridge)[:, None])
        return quadratic if self.kernel.side == "features" else (self.product - quadratic) / ridge


def factorize(matrix: Float64[Tensor, "side side"], side: Literal["features", "examples"]) -> Kernel:
    """Factor a Gram matrix.

    Args:
        matrix: G (k x k) or A A^T (n x n), symmetric positive semidefinite.
        side: Which of the two it is.

    Returns:
        The kernel; eigenvalues below zero by rounding are set to zero.

    Raises:
        NumericalError: The matrix is zero or not finite.
    """
    if not torch.isfinite(matrix).all():
        raise NumericalError("The Gram matrix holds NaN or Inf; features too large for float32 are the usual cause.")
    if not float(matrix.diagonal().sum()) > 0:
        raise NumericalError(
            "The Gram matrix is zero: every gradient, or every curvature weight W, is zero. If only W vanishes, set "
            "solver.weights=off."
        )
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    return Kernel(eigenvalues.clamp(min=0), eigenvectors, side)
