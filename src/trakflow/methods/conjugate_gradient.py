"""Conjugate gradient for several right-hand sides at once (Hestenes & Stiefel 1952)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import NumericalError

Rows = Float[Tensor, "rows p"]


def conjugate_gradient(
    product: Callable[[Rows], Rows],
    right: Rows,
    tolerance: float,
    iterations: int,
    precondition: Callable[[Rows], Rows] = lambda rows: rows,
) -> Rows:
    """Solve A x = b for each row b.

    Every row has steps of its own, and takes part no longer once it has converged. A row counts as converged when its
    residual b - A x, computed anew and not only by recursion, is small; where rounding made the two part, the
    iteration begins again from x.

    Args:
        product: A v of each row, with A symmetric and positive definite.
        right: The rows b.
        tolerance: Norm of the residual at which to stop, as a part of that of b.
        iterations: At most so many for each row, those after a new beginning included.
        precondition: P v of each row, with P symmetric, positive definite and near a multiple of the inverse of A.

    Raises:
        NumericalError: Some row has not converged by then, or A or P is not positive definite.
    """
    found, limits = torch.zeros_like(right), tolerance * right.norm(dim=1)
    residuals, used = right.clone(), 0
    while len(rows := torch.nonzero(~(residuals.norm(dim=1) <= limits)).flatten()):
        if used >= iterations:
            worst = (residuals.norm(dim=1) / right.norm(dim=1))[rows].max().item()
            raise NumericalError(
                f"Conjugate gradient has not converged for {len(rows)} of {len(right)} targets in {iterations} "
                f"iterations: the largest residual is {worst:.2g} of the gradient, and tolerance is {tolerance:g}. "
                "Raise the method's damping, iterations or tolerance."
            )
        steps, used = _descend(product, precondition, residuals[rows], limits[rows], used, iterations)
        found[rows] += steps
        residuals[rows] = right[rows] - product(found[rows])
        if not residuals.isfinite().all():
            raise NumericalError("Conjugate gradient came to numbers that are not finite. Raise the method's damping.")
    return found


def _descend(
    product: Callable[[Rows], Rows],
    precondition: Callable[[Rows], Rows],
    residuals: Rows,
    limits: Float[Tensor, " rows"],
    used: int,
    iterations: int,
) -> tuple[Rows, int]:
    """Return steps by the recursion, from zero until its residuals are half of what is allowed; and iterations used."""
    found, directions = torch.zeros_like(residuals), precondition(residuals).clone()
    inner, squares = _dot(residuals, directions), _dot(residuals, residuals)
    goal = (limits.double() / 2) ** 2
    while used < iterations and len(rows := torch.nonzero(squares > goal).flatten()):
        along = directions[rows]
        image = product(along)
        curvatures = _dot(along, image)
        if not (curvatures > 0).all():
            raise NumericalError(
                "The damped Gauss-Newton matrix is not positive definite in the model's precision: a vector v has "
                f"v^T A v = {curvatures.min().item():.2g}. Raise the method's damping."
            )
        if not (inner[rows] > 0).all():
            raise NumericalError(
                "The preconditioner of conjugate gradient is not positive definite in the model's precision. Set the "
                "method's rank to 0, or raise its damping."
            )
        lengths = (inner[rows] / curvatures).to(found.dtype)[:, None]
        found[rows] += lengths * along
        residuals[rows] -= lengths * image
        left = residuals[rows]
        turned = precondition(left)
        following = _dot(left, turned)
        directions[rows] = turned + (following / inner[rows]).to(found.dtype)[:, None] * along
        inner[rows], squares[rows] = following, _dot(left, left)
        used += 1
    return found, used


def _dot(left: Rows, right: Rows) -> Float[Tensor, " rows"]:
    return torch.linalg.vecdot(left, right, dim=1).double()
