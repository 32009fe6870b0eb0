"""The largest eigenvalues of a symmetric matrix by products: Arnoldi's iteration, here that of Lanczos."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.progress import progress

Rows = Float[Tensor, "rows p"]
# In units of the rounding of the matrix's largest eigenvalue: below that, what is left of a product is noise.
NOISE = 32


@dataclass(frozen=True)
class Eigenpairs:
    """Some eigenvalues, largest magnitude first, and orthonormal eigenvectors.

    Attributes:
        values: In float64.
        vectors: A row an eigenvector.
    """

    values: Float[Tensor, " kept"]
    vectors: Float[Tensor, "kept p"]


def largest_eigenpairs(
    product: Callable[[Rows], Rows], start: Float[Tensor, " p"], iterations: int, kept: int
) -> Eigenpairs:
    """Return eigenpairs of A in the Krylov space of a vector.

    The iteration ends early where the space is exhausted: A times it lies within it, as happens after rank(A) + 1
    steps at the latest. Eigenvalues that are zero up to rounding are left out.

    Args:
        product: A v of each row, with A symmetric.
        start: The vector.
        iterations: Dimensions of the space, at most.
        kept: Eigenpairs, at most.
    """
    basis, projected = _krylov(product, start, iterations)
    values, rotation = torch.linalg.eigh(projected)
    order = values.abs().argsort(descending=True)[:kept]
    order = order[values[order].abs() > _noise(start) * values.abs().max()]
    return Eigenpairs(values[order], rotation[:, order].T.to(basis.dtype) @ basis)


def _krylov(
    product: Callable[[Rows], Rows], start: Float[Tensor, " p"], iterations: int
) -> tuple[Float[Tensor, "steps p"], Float[Tensor, "steps steps"]]:
    """Return an orthonormal basis, and A in that basis (tridiagonal, float64)."""
    steps = min(iterations, len(start))
    basis = start.new_empty(steps, len(start))
    basis[0] = start / start.norm()
    projected = torch.zeros(steps, steps, dtype=torch.float64, device=start.device)
    for step in progress(range(steps), "Arnoldi iteration"):
        following = product(basis[step : step + 1])[0]
        projected[step, step] = torch.dot(following, basis[step])
        # Against all earlier vectors and twice: once leaves what rounding lost.
        for _ in range(2):
            following = following - basis[: step + 1].T @ (basis[: step + 1] @ following)
        length = following.norm()
        exhausted = length <= _noise(start) * projected.abs().max()
        if step + 1 == steps or exhausted:
            return basis[: step + 1], projected[: step + 1, : step + 1]
        projected[step, step + 1] = projected[step + 1, step] = length
        basis[step + 1] = following / length
    raise AssertionError("A space has at least one dimension.")


def _noise(start: Tensor) -> float:
    return NOISE * torch.finfo(start.dtype).eps
