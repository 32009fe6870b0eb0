"""Influence functions (Koh & Liang 2017, arXiv 1703.04730) by conjugate gradient on the damped Gauss-Newton matrix."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.methods.conjugate_gradient import conjugate_gradient
from trakflow.methods.gauss_newton import GaussNewton
from trakflow.methods.gradients import EXACT, check_gradients, gradients, target_gradients
from trakflow.methods.nystrom import ROWS_PER_DIMENSION, NystromPreconditioner
from trakflow.progress import progress
from trakflow.seeds import generator

# Rows of p numbers that a target needs while it is solved for: gradient, solution, residual, direction, image, copies.
ROWS_PER_TARGET = 13
# Products for the preconditioner that a target pays for; for a few targets, more would cost more than they save.
RANK_PER_TARGET = 16

Preconditioner = Callable[[Float[Tensor, "rows p"]], Float[Tensor, "rows p"]]


class InfluenceFunction(CheckpointMethod):
    """What upweighting an example does to f of a target, to first order: Q_i grad f_i . (G + damping I)^-1 grad f(z).

    G is the Gauss-Newton matrix of the training loss, summed over the checkpoint's own training examples, by exact
    products (section 3 there; `trakflow.methods.gauss_newton`). It stands for the Hessian, which is indefinite at the
    end of a training by SGD.

    Args:
        damping: What is added to the diagonal of G, times its mean (`relative`) or as it is (`absolute`).
        damping_unit: `relative` or `absolute`.
        curvature: `loss`: J^T H J of the loss; `output`: W grad f grad f^T of the task.
        tolerance: Norm of the residual that a solution may have, as a part of that of grad f(z).
        iterations: At most so many of conjugate gradient; more are an error.
        rank: Random vectors whose products with G make a preconditioner, at most 16 for each target, which saves
            iterations (`trakflow.methods.nystrom`); 0 for none.
    """

    def __init__(
        self,
        damping: float = 10.0,
        damping_unit: str = "relative",
        curvature: str = "loss",
        tolerance: float = 1e-3,
        iterations: int = 1000,
        rank: int = 128,
    ):
        if damping_unit not in ("relative", "absolute"):
            raise ConfigError(f"damping_unit={damping_unit} of method influence_function must be relative or absolute.")
        if not damping > 0 or not 0 < tolerance < 1 or iterations < 1 or rank < 0:
            raise ConfigError(
                "Method influence_function takes damping > 0, 0 < tolerance < 1, iterations >= 1 and rank >= 0, but "
                f"has {damping}, {tolerance}, {iterations} and {rank} (method.influence_function.make)."
            )
        self._damping = damping
        self._relative = damping_unit == "relative"
        self._curvature = curvature
        self._tolerance = tolerance
        self._iterations = iterations
        self._rank = rank

    def check(self, planned: Planned) -> None:
        """Refuse a task without such a curvature, and a model whose products with it cannot be taken or do not fit."""
        matrix = GaussNewton(planned.trained, self._curvature)
        _targets_at_once(planned.trained, matrix)
        self._check_rank(planned.trained.memory_bytes, matrix, planned.targets)
        matrix.check_product()
        check_gradients(replace(planned, targets=1), EXACT)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Solve for as many targets at once as fit the memory, and multiply by the gradients of all training examples.

        Raises:
            ConfigError: Not even one target fits, or not the preconditioner.
            NumericalError: Conjugate gradient does not converge.
        """
        matrix = GaussNewton(trained, self._curvature)
        count, at_once = len(next(iter(trained.targets.values()))), _targets_at_once(trained, matrix)
        self._check_rank(trained.memory_bytes, matrix, count)
        damping = self._damping * (matrix.mean_diagonal() if self._relative else 1.0)
        precondition = self._preconditioner(trained, matrix, damping)
        columns = []
        for start in progress(range(0, count, at_once), "solve for targets"):
            block = {name: array[start : start + at_once] for name, array in trained.targets.items()}
            columns.append(self._scores_of(replace(trained, targets=block), matrix, damping, precondition))
        return torch.cat(columns, dim=1)

    def _preconditioner(self, trained: Trained, matrix: GaussNewton, damping: float) -> Preconditioner:
        rank = self._rank_for(len(next(iter(trained.targets.values()))), matrix.size)
        if rank == 0:
            return lambda rows: rows
        random = generator(trained.seed, "influence_function", trained.number)
        like = torch.empty(0, dtype=matrix.dtype, device=trained.device)
        return NystromPreconditioner(matrix, matrix.size, rank, damping, random, like)

    def _rank_for(self, targets: int, size: int) -> int:
        # Not a matter of the memory: where conjugate gradient ends, within the tolerance, is not to depend on it.
        return min(self._rank, RANK_PER_TARGET * targets, size)

    def _check_rank(self, memory_bytes: int, matrix: GaussNewton, targets: int) -> None:
        of_one = matrix.dtype.itemsize * ROWS_PER_DIMENSION * matrix.size
        rank, fitting = self._rank_for(targets, matrix.size), memory_bytes // 2 // of_one
        if rank > fitting:
            raise ConfigError(
                f"A preconditioner of rank {rank} for {matrix.size} parameters takes {rank * of_one >> 20} MiB while "
                f"it is made, and method influence_function may hold {memory_bytes >> 21}; raise runtime.memory_mb, "
                f"or set method.influence_function.make.rank to at most {fitting}."
            )

    def _scores_of(
        self, trained: Trained, matrix: GaussNewton, damping: float, precondition: Preconditioner
    ) -> Float[Tensor, "n m"]:
        solutions = conjugate_gradient(
            lambda vectors: matrix(vectors) + damping * vectors,
            target_gradients(trained, EXACT).to(matrix.dtype),
            self._tolerance,
            self._iterations,
            precondition,
        ).float()
        rows = []
        for _, found in gradients(trained, EXACT):
            rows.append(found.loss_gradients[:, None] * (found.features @ solutions.T))
        return torch.cat(rows)


def _targets_at_once(trained: Trained, matrix: GaussNewton) -> int:
    of_one = matrix.dtype.itemsize * ROWS_PER_TARGET * matrix.size
    if of_one > trained.memory_bytes // 2:
        raise ConfigError(
            f"A target by {matrix.size} parameters takes {of_one >> 20} MiB while it is solved for, and method "
            f"influence_function may hold {trained.memory_bytes >> 21}; raise runtime.memory_mb."
        )
    return trained.memory_bytes // 2 // of_one
