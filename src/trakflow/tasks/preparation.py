"""Tasks whose output function compares an example with others, which every checkpoint embeds anew beforehand."""

from abc import abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import nn

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Task


class ReferencedTask(Task):
    """A task whose f is computed against reference examples out of the training set.

    In a batch examples must not influence each other, so what f compares an example with is fixed before: which
    examples these are is the same for all checkpoints and all retrained models, and each embeds them by its own
    weights.
    """

    @abstractmethod
    def reference_rows(self, total: int) -> Int[np.ndarray, " references"]:
        """Return which of `total` training examples are the references, ascending.

        Raises:
            ConfigError: There are too few.
        """

    @abstractmethod
    def with_references(self, model: nn.Module, references: Batch) -> "ReferencedTask":
        """Return a copy of the task that compares with these examples as `model` has them now.

        Args:
            model: With the weights of a checkpoint, on the device of the references.
            references: The examples.
        """


def reference_rows(task: Any, total: int) -> Int[np.ndarray, " references"] | None:
    """Return which training examples a task compares with, or None for a task that compares with none."""
    return task.reference_rows(total) if isinstance(task, ReferencedTask) else None


def prepared(task: Task, model: nn.Module, references: Batch | None) -> Task:
    """Return the task as it is for one model: with its references embedded, or unchanged if it has none.

    Args:
        task: The task.
        model: With the weights of a checkpoint.
        references: The examples that `reference_rows` names, on the model's device; None for a task without.

    Raises:
        ConfigError: The task needs references and has none.
    """
    if not isinstance(task, ReferencedTask):
        return task
    if references is None:
        raise ConfigError(
            f"{type(task).__name__} compares an example with reference examples, which are missing. Give TRAKer a "
            "batch of training examples as `references`."
        )
    return task.with_references(model, references)
