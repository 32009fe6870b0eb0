"""A preconditioner for conjugate gradient: A's largest eigenvalues, found by products with random vectors."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import NumericalError

Rows = Float[Tensor, "rows p"]
# Rows of p numbers that a dimension takes while the preconditioner is made: random vector, its product, a copy of that.
ROWS_PER_DIMENSION = 3


class NystromPreconditioner:
    """Nearly the inverse of A + damping I, from the randomized Nystroem approximation of A.

    It has the eigenvalues of A + damping I made nearly equal where A is largest, and leaves the rest alone, so that
    conjugate gradient needs fewer iterations; what it converges to is the same. (Frangella, Tropp & Udell 2021, arXiv
    2110.02820; small eigenvalues are dropped here instead of shifted.)

    Args:
        product: A v of each row, with A symmetric and positive semidefinite.
        size: p, the dimensions of A.
        rank: Random vectors to multiply by A, between 1 and p.
        damping: What is added to the diagonal, positive.
        random: Draws the vectors.
        like: A tensor of the type and on the device of the vectors.

    Raises:
        NumericalError: A product is not finite.
    """

    def __init__(
        self,
        product: Callable[[Rows], Rows],
        size: int,
        rank: int,
        damping: float,
        random: np.random.Generator,
        like: Tensor,
    ):
        vectors = torch.from_numpy(random.standard_normal((rank, size), dtype=np.float32)).to(like)
        images = product(vectors)
        if not images.isfinite().all():
            raise NumericalError(
                "Products of random vectors with the Gauss-Newton matrix are not finite. Look whether the training of "
                "the checkpoint diverged."
            )
        core = (vectors @ images.T).double()
        # Half of the memory that this takes.
        del vectors
        values, self._basis = _eigenpairs((core + core.T) / 2, images)
        # What lies outside of the basis counts as an eigenvalue as large as the smallest within.
        smallest = values.min() if len(values) else 0.0
        self._change = ((smallest + damping) / (values + damping) - 1).to(like.dtype)

    def __call__(self, vectors: Rows) -> Rows:
        """Multiply each row, up to a common factor, by the inverse of the approximation."""
        return vectors + (vectors @ self._basis.T * self._change) @ self._basis


def _eigenpairs(
    core: Float[Tensor, "rank rank"], images: Rows
) -> tuple[Float[Tensor, " kept"], Float[Tensor, "kept p"]]:
    """Return the eigenvalues (float64) and eigenvectors, as rows, of Y^T C^+ Y, with C the core and Y the images."""
    noise = len(core) * torch.finfo(images.dtype).eps
    scales, rotation = torch.linalg.eigh(core)
    kept = scales > noise * scales.max()
    # F, of which F^T F is the approximation; the eigenvalues of the small F F^T are the same.
    factor = (rotation[:, kept] / scales[kept].sqrt()).T.to(images.dtype) @ images
    if not len(factor):
        return scales[kept], factor
    values, turned = torch.linalg.eigh((factor @ factor.T).double())
    kept = values > noise * values.max()
    return values[kept], (turned[:, kept] / values[kept].sqrt()).T.to(images.dtype) @ factor
