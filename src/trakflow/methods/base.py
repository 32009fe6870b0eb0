"""What an attribution method is given, and what it returns.

Scores are (n x m): `scores[i, j]` > 0 says that training with example i raises the output f of target j, so that the
sum of a subset's scores predicts the output of a model trained on it, up to a constant. A method whose published form
speaks of the loss is turned to speak of f.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Float32
from numpy import ndarray
from torch import Tensor, nn

from trakflow.tasks.base import Task

Scores = Float32[ndarray, "n m"]


@dataclass(frozen=True)
class Trained:
    """One checkpoint and the data.

    Attributes:
        model: With the checkpoint's weights, in evaluation mode, on `device`.
        task: The model output function, and the loss.
        train: The training examples' tensors (n x ...), on `device`.
        targets: The targets' tensors (m x ...), on `device`; `labels` are those whose output is attributed.
        mask: Which training examples the checkpoint has seen (n), or None where that is not known.
        number: The checkpoint's index.
        seed: The experiment's seed.
        batch_size: Examples at a time.
        memory_bytes: What a method may hold beside the model and the data.
        device: As torch names it.
    """

    model: nn.Module
    task: Task
    train: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    mask: Bool[ndarray, " n"] | None
    number: int
    seed: int
    batch_size: int
    memory_bytes: int
    device: str


@dataclass(frozen=True)
class Planned:
    """What a method will be given, as far as that is known before anything is trained.

    Attributes:
        trained: An untrained model (or one of the user's own checkpoints) with two of the training examples, which
            stand for the targets too. What its outputs and gradients are means nothing; that they can be taken does.
        examples: Number of training examples.
        targets: Number of targets.
        counts: Numbers of checkpoints, or of retrained subsets, that the method is evaluated with, ascending.
    """

    trained: Trained
    examples: int
    targets: int
    counts: Sequence[int]


class Method(ABC):  # noqa: B024 (what is abstract differs between the four kinds)
    """What all kinds of methods have in common."""

    def check(self, planned: Planned) -> None:  # noqa: B027 (a method may take anything)
        """Refuse what `scores` would refuse, before anything is trained.

        Raises:
            TrakflowError: It cannot be done for this model, task or data; says what to do instead.
        """


class CheckpointMethod(Method):
    """A method that attributes by one checkpoint; the scores of several are averaged."""

    @abstractmethod
    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Attribute all targets to all training examples by one checkpoint.

        Raises:
            TrakflowError: It cannot be done for this model or task; says what to do instead.
        """


class CheckpointsMethod(Method):
    """A method that takes several checkpoints at once, and averages over them by itself."""

    @abstractmethod
    def scores(self, trained: Sequence[Trained]) -> Float[Tensor | ndarray, "n m"]:
        """Attribute all targets to all training examples by all of the checkpoints that are given.

        Args:
            trained: The first checkpoints, as many as are evaluated. `trained[i]` loads checkpoint i each time that it
                is asked for: who keeps none of them has one in memory at a time. All share the data.

        Raises:
            TrakflowError: It cannot be done for this model or task; says what to do instead.
        """


class RetrainedMethod(Method):
    """A method that is fitted on the outputs of models retrained on subsets."""

    @abstractmethod
    def scores(
        self, masks: Bool[ndarray, "subsets n"], outputs: Float32[ndarray, "subsets m"], seed: int
    ) -> Float[ndarray, "n m"]:
        """Fit.

        Args:
            masks: Which examples each model was trained on.
            outputs: f of each target by models trained on that subset, averaged over retrains.
            seed: The experiment's seed.
        """


class PlainMethod(Method):
    """A method that reads neither checkpoints nor retrained models."""

    @abstractmethod
    def scores(self, n: int, m: int, seed: int) -> Float[ndarray, "n m"]:
        """Return scores of `n` training examples for `m` targets."""
