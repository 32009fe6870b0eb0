"""Classifiers that refine their logits in iterations: a layer applied again and again, an unrolled optimiser, exits."""

from jaxtyping import Float, Int
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch
from trakflow.tasks.classification import Classification

Iterations = Float[Tensor, "batch iterations classes"] | Float[Tensor, "batch classes"]


class IterativeClassification(Classification):
    """Classification by the logits after the last iteration, trained by cross-entropy at a temperature T.

    A model returns its logits after every iteration (batch x iterations x classes), or after the last alone
    (batch x classes). With g those of the last iteration, f = log(p / (1 - p)) for the label's probability p by
    softmax(g). The loss is T times the cross-entropy of softmax(g / T). Its derivatives by the label's logit, and so by
    f while the other logits stay as they are, are with q the label's probability by softmax(g / T)

        Q = 1 - q,    W = q (1 - q) / T.

    At T = 1 and without iterations this is `Classification`. The paper's library has a task of this name with the same
    f and Q, where it says that gradients are taken one example at a time. Here a sketch chooses how they are taken, and
    a layer that is called in every iteration is counted every time.

    Args:
        temperature: T.

    Raises:
        ConfigError: The temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0):
        if not temperature > 0:
            raise ConfigError(f"task.temperature={temperature} must be positive.")
        self.temperature = temperature

    def output(self, raw: Iterations, batch: Batch) -> Float[Tensor, " batch"]:
        """g_y - logsumexp of the other logits, after the last iteration."""
        return super().output(_last(raw), batch)

    def loss_gradient(self, raw: Iterations, batch: Batch) -> Float[Tensor, " batch"]:
        """1 - q."""
        return super().loss_gradient(self._cooled(raw.float()), batch)

    def curvature(self, raw: Iterations, batch: Batch) -> Float[Tensor, " batch"]:
        """The variance of the label, q (1 - q), over T."""
        return super().curvature(self._cooled(raw.float()), batch) / self.temperature

    def check(self, raw: Tensor, num_classes: int | None) -> None:
        """One logit a class, after every iteration or after the last."""
        if raw.ndim not in (2, 3) or 0 in raw.shape or (num_classes is not None and raw.shape[-1] != num_classes):
            raise ConfigError(
                f"`model` returns outputs of shape {tuple(raw.shape)} for one example, but data.num_classes is "
                f"{num_classes}: expected (1, iterations, {num_classes}), a logit a class after every iteration, or "
                f"(1, {num_classes}). Change what the model returns, or data.num_classes."
            )

    def loss(self, raw: Iterations, batch: Batch) -> Float[Tensor, " batch"]:
        """T times the cross-entropy of softmax(g / T)."""
        return self.temperature * super().loss(self._cooled(raw), batch)

    def predicted(self, raw: Iterations) -> Int[Tensor, " batch"]:
        """The label of the largest logit after the last iteration."""
        return super().predicted(_last(raw))

    def _cooled(self, raw: Iterations) -> Float[Tensor, "batch classes"]:
        # Classification of g / T: its output is log(q / (1 - q)).
        return _last(raw) / self.temperature


def _last(raw: Iterations) -> Float[Tensor, "batch classes"]:
    return raw[:, -1] if raw.ndim == 3 else raw
