"""The ridge-regularised kernel (Phi^T W Phi + ridge I)^-1, factored once so that any ridge is a division.

Notation (paper, section 3): Phi is n x k, W the diagonal of curvature weights, G = Phi^T W Phi. With k <= n the
k x k matrix G is factored as V diag(s) V^T. With k > n the n x n matrix A A^T of A = W^(1/2) Phi is factored as
U diag(s) U^T instead, and

    (G + ridge I)^-1 T = (T - A^T U diag(1 / (s + ridge)) U^T A T) / ridge.

All arithmetic is float64. No inverse is ever formed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trakflow.errors import NumericalError
from trakflow.progress import progress

# Yields (first row, Phi rows, W rows) over all n rows in order, as often as it is called.
Rows = Iterator[tuple[int, Float[Tensor, "rows k"], Float[Tensor, " rows"] | None]]
Stream = Callable[[], Rows]


def gram(stream: Rows | Iterable, k: int) -> Float64[Tensor, "k k"]:
    """Accumulate Phi^T W Phi in float64."""
    total = torch.zeros(k, k, dtype=torch.float64)
    for _, features, weights in stream:
        rows = features.double()
        total.addmm_((rows if weights is None else rows * weights.double()[:, None]).T, rows)
    return total


def outer_gram(stream: Stream, n: int) -> Float64[Tensor, "n n"]:
    """Compute W^(1/2) Phi Phi^T W^(1/2) in float64, a pair of row blocks at a time."""
    total = torch.zeros(n, n, dtype=torch.float64)
    for first, left, left_weights in progress(stream(), "Gram matrix"):
        scaled = _weighted(left, left_weights)
        for second, right, right_weights in stream():
            if second > first:  # blocks come in order, and the matrix is symmetric
                break
            block = scaled @ _weighted(right, right_weights).T
            total[first : first + len(left), second : second + len(right)] = block
            total[second : second + len(right), first : first + len(left)] = block.T
    return total


def _weighted(features: Tensor, weights: Tensor | None) -> Tensor:
    """W^(1/2) Phi of some rows, float64."""
    rows = features.double()
    return rows if weights is None else rows * weights.double().sqrt()[:, None]


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
                "number or auto, or choose a smaller sketch.k."
            )

    def coordinates(self, columns: Float64[Tensor, "k m"], stream: Stream) -> Float64[Tensor, "rank m"]:
        """Return V^T C, or U^T A C, for columns C in feature space."""
        if self.side == "features":
            return self.eigenvectors.T @ columns
        total = torch.zeros(len(self.eigenvalues), columns.shape[1], dtype=torch.float64)
        for first, features, weights in stream():
            total += self.eigenvectors[first : first + len(features)].T @ (_weighted(features, weights) @ columns)
        return total

    def solve(self, columns: Float64[Tensor, "k m"], ridge: float, stream: Stream) -> Float64[Tensor, "k m"]:
        """Return (G + ridge I)^-1 C.

        Raises:
            NumericalError: As `require_solvable`.
        """
        self.require_solvable(ridge)
        scaled = self.coordinates(columns, stream) / (self.eigenvalues + ridge)[:, None]
        if self.side == "features":
            return self.eigenvectors @ scaled
        correction = torch.zeros_like(columns)
        for first, features, weights in stream():
            correction += _weighted(features, weights).T @ (self.eigenvectors[first : first + len(features)] @ scaled)
        return (columns - correction) / ridge


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
