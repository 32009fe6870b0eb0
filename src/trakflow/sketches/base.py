"""The one seam between models and kernels: a sketch turns a batch into features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import NumericalError
from trakflow.tasks.base import Batch


@dataclass(frozen=True)
class SketchedBatch:
    """What is kept of a batch.

    Attributes:
        features: phi(z) = P^T grad f(z; theta), float32 (by a hooked sketch of a float64 model, float64).
        outputs: f(z; theta), float32.
        loss_gradients: Q = -dloss/df, float32.
        curvatures: W = d2loss/df2, float32, or None where the task has none.
    """

    features: Float[Tensor, "batch k"]
    outputs: Float[Tensor, " batch"]
    loss_gradients: Float[Tensor, " batch"]
    curvatures: Float[Tensor, " batch"] | None

    def finite_rows(self) -> Tensor:
        """Which examples have only finite values (batch, bool)."""
        finite = (
            torch.isfinite(self.features).all(dim=1)
            & torch.isfinite(self.outputs)
            & torch.isfinite(self.loss_gradients)
        )
        return finite if self.curvatures is None else finite & torch.isfinite(self.curvatures)

    def require_finite(self, numbers: Sequence[int]) -> None:
        """Refuse NaN and Inf.

        Args:
            numbers: What the examples are called in the message.

        Raises:
            NumericalError: Names the examples.
        """
        bad = torch.nonzero(~self.finite_rows()).flatten().tolist()
        if bad:
            named = ", ".join(str(numbers[row]) for row in bad[:5])
            raise NumericalError(
                f"Gradients, outputs or weights of examples {named}{' and more' if len(bad) > 5 else ''} are NaN or "
                "Inf. Look at those examples, and whether this checkpoint's training diverged."
            )


class Sketch(ABC):
    """A map from batches to features; the same example gives the same features in any batch."""

    k: int

    @abstractmethod
    def __call__(self, batch: Batch) -> SketchedBatch:
        """Sketch a batch of any size."""

    @abstractmethod
    def try_on(self, batch: Batch) -> None:
        """Take the gradients of a batch and no sketch of them, which may take long for a single batch.

        Raises:
            SketchError: As a call of the sketch.
        """

    @abstractmethod
    def bytes_per_example(self, example: Batch) -> int:
        """Estimate how much memory each example of a batch takes, from a batch of one."""


class Projection(ABC):
    """A random linear map of gradients, applied a parameter tensor at a time.

    Its matrix is a function of (seed, parameter name) alone: no batch, shard, device or order changes it.
    """

    k: int

    @abstractmethod
    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Add the projection of one parameter's gradients to `features`, in place."""
