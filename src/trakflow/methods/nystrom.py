"""A preconditioner for conjugate gradient: A's largest eigenvalues, found by products with random vectors."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "rows p"]
# Rows of p numbers that a dimension takes while the preconditioner is made: random vector, image, product, its copies.
COPIES = 6


class NystromPreconditioner:
    """Nearly the inverse of A + damping I, from the randomized Nystroem approximation of A.

    It has the eigenvalues of A + damping I made nearly equal where A is largest, and leaves the rest alone, so that
    conjugate gradient needs fewer iterations; what it converges to is the same. (Frangella, Tropp & Udell 2021, arXiv
    2110.02820, section 2; small eigenvalues are dropped here instead of shifted.)

    Args:
        product: A v of each row, with A symmetric and positive semidefinite.
        size: p, the dimensions of A.
        rank: Random vectors to multiply by A, between 1 and p.
        damping: What is added to the diagonal, positive.
        random: Draws the vectors.
        like: A tensor of the type and on the device of the vectors.
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
        drawn = torch.from_numpy(random.standard_normal((size, rank), dtype=np.float32)).to(like)
        vectors = torch.linalg.qr(drawn).Q.T.contiguous()
        del drawn
        images = product(vectors)
        values, basis = _eigenpairs(vectors, images)
        self._basis = basis
        # What lies outside of the basis counts as an eigenvalue as large as the smallest within.
        smallest = values.min() if len(values) else values.new_zeros(())
        self._change = ((smallest + damping) / (values + damping) - 1).to(like.dtype)

    def __call__(self, vectors: Rows) -> Rows:
        """Multiply each row, up to a common factor, by the inverse of the approximation."""
        return vectors + (vectors @ self._basis.T * self._change) @ self._basis


def _eigenpairs(vectors: Rows, images: Rows) -> tuple[Float[Tensor, " kept"], Float[Tensor, "kept p"]]:
    """Return the eigenpairs of Y^T (V Y^T)^+ Y, with V the vectors and Y their images: values in float64."""
    noise = len(vectors) * torch.finfo(vectors.dtype).eps
    core = (vectors @ images.T).double()
    scales, rotation = torch.linalg.eigh((core + core.T) / 2)
    kept = scales > noise * scales.max()
    # The rows of `factor` are those of a matrix F with F^T F the approximation.
    factor = (rotation[:, kept] / scales[kept].sqrt()).T.to(images.dtype) @ images
    values, turned = torch.linalg.eigh((factor @ factor.T).double())
    kept = values > noise * values.max() if len(values) else kept[:0]
    basis = (turned[:, kept] / values[kept].sqrt()).T.to(images.dtype) @ factor
    return values[kept], basis
