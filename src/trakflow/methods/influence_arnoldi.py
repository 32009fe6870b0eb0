"""Influence functions on the dominant eigenvectors of the curvature (Schioppa et al. 2022, arXiv 2112.03052)."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.methods.gauss_newton import GaussNewton
from trakflow.methods.gradients import EXACT, check_gradients, gradients
from trakflow.methods.lanczos import Eigenpairs, largest_eigenpairs
from trakflow.seeds import generator


class InfluenceArnoldi(CheckpointMethod):
    """Q_i grad f_i . G^-1 grad f(z), with G inverted on some of its eigenvectors, and all else left out.

    The eigenvectors are those of the largest eigenvalues that Arnoldi's iteration from a random vector finds (section
    3 there). The matrix is the Gauss-Newton matrix of the training loss (`trakflow.methods.gauss_newton`) in place of
    the Hessian; as it is symmetric, the iteration is that of Lanczos. There is no damping.

    Args:
        iterations: Dimensions of the Krylov space.
        eigenvalues: Kept, of those found; fewer where G has a smaller rank.
        curvature: `loss`: J^T H J of the loss; `output`: W grad f grad f^T of the task.
    """

    def __init__(self, iterations: int = 200, eigenvalues: int = 100, curvature: str = "loss"):
        if not 1 <= eigenvalues <= iterations:
            raise ConfigError(
                f"Method influence_arnoldi takes 1 <= eigenvalues <= iterations, but has {eigenvalues} and "
                f"{iterations} (method.influence_arnoldi.make)."
            )
        self._iterations = iterations
        self._eigenvalues = eigenvalues
        self._curvature = curvature

    def check(self, planned: Planned) -> None:
        """Refuse a task without such a curvature, and a model whose products with it cannot be taken or do not fit."""
        matrix = GaussNewton(planned.trained, self._curvature)
        self._require_memory(planned.trained, matrix)
        matrix.check_product()
        check_gradients(replace(planned, targets=1), EXACT)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Project all gradients onto the eigenvectors, and divide by the eigenvalues.

        Raises:
            ConfigError: The basis of the Krylov space does not fit the memory.
        """
        matrix = GaussNewton(trained, self._curvature)
        self._require_memory(trained, matrix)
        random = generator(trained.seed, "arnoldi", trained.number)
        start = torch.from_numpy(random.standard_normal(matrix.size)).to(trained.device, matrix.dtype)
        found = largest_eigenpairs(matrix, start, self._iterations, self._eigenvalues)
        targets, _ = _projected(replace(trained, train=trained.targets), found)
        rows, loss_gradients = _projected(trained, found)
        return loss_gradients[:, None] * ((rows / found.values.to(rows.dtype)) @ targets.T)

    def _require_memory(self, trained: Trained, matrix: GaussNewton) -> None:
        size = matrix.size
        needed = matrix.dtype.itemsize * size * (min(self._iterations, size) + min(self._eigenvalues, size))
        if needed > trained.memory_bytes:
            raise ConfigError(
                f"The basis of {self._iterations} iterations by {size} parameters takes {needed >> 20} MiB, and method "
                f"influence_arnoldi may hold {trained.memory_bytes >> 20}; raise runtime.memory_mb, or lower "
                "method.influence_arnoldi.make.iterations."
            )


def _projected(trained: Trained, found: Eigenpairs) -> tuple[Float[Tensor, "rows kept"], Float[Tensor, " rows"]]:
    """Gradients of f on the eigenvectors, and Q."""
    vectors = found.vectors.float()
    batches = [(batch.features @ vectors.T, batch.loss_gradients) for _, batch in gradients(trained, EXACT)]
    features, loss_gradients = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(loss_gradients)
