"""A task: the scalar f(z; theta) that is attributed, and the derivatives of the loss by it (paper, section 3)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from jaxtyping import Float, Int
from torch import Tensor

from trakflow.errors import ConfigError

Batch = Mapping[str, Tensor]
Model = Callable[..., Tensor]


class Task(ABC):
    """A model output function, for a batch of examples.

    A batch maps array names to tensors with one row an example. Methods are called on whole batches, in which examples
    must not influence each other, and by some sketches under ``torch.func`` transforms with batches of one, so they
    must not branch on values.

    Attributes:
        fields: Names of the arrays of a batch that is given as a tuple, in its order.
    """

    fields: tuple[str, ...] = ("inputs", "labels")

    def forward(self, model: Model, batch: Batch) -> Tensor:
        """Run the model on a batch; by default on its `inputs`.

        Returns:
            Whatever the other methods take as `raw`, with one row an example.
        """
        return model(batch["inputs"])

    @abstractmethod
    def output(self, raw: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The output function f(z; theta) of each example."""

    @abstractmethod
    def loss_gradient(self, raw: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """Q = -dloss/df of each example, in float32."""

    def curvature(self, raw: Tensor, batch: Batch) -> Float[Tensor, " batch"] | None:
        """W = d2loss/df2 of each example, in float32, or None where the task has none."""
        return None

    def check(self, raw: Tensor, num_classes: int | None) -> None:  # noqa: B027 (a task may take anything)
        """Refuse a model whose `raw` this task cannot read, before any work is done.

        Args:
            raw: What `forward` returned for a batch of one.
            num_classes: `data.num_classes`.

        Raises:
            ConfigError: Says what the model returned and what was expected.
        """

    def check_arrays(self, batch: Batch) -> None:  # noqa: B027 (a task may take anything)
        """Refuse examples that lack an array that this task reads, before any work is done.

        Args:
            batch: A batch of one.

        Raises:
            ConfigError: Says which array is missing, or not what it should be, and what to do about it.
        """

    def loss(self, raw: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The training loss of each example; needed only where trakflow trains or retrains."""
        raise ConfigError(
            f"{type(self).__name__} has no loss, so trakflow cannot train with it; define `loss`, or bring "
            "checkpoints (checkpoints.files) and retrained outputs (evaluation.source=files)."
        )

    def predicted(self, raw: Tensor) -> Int[Tensor, " batch"]:
        """The label that the model predicts, for `targets.output=predicted`."""
        raise ConfigError(f"{type(self).__name__} predicts no label; use targets.output=true_label.")
