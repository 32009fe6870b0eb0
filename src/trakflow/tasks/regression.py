"""Regression by squared error, whose output function is the prediction itself."""

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Model, Task


class Regression(Task):
    """f = the prediction of a model with one output, trained by (f - y)^2 / 2 with y the example's `values`.

    Q = -dloss/df = y - f, with its sign, and W = d2loss/df2 = 1. A positive score therefore means that the training
    example raises the prediction at the target, whether that makes it better or worse. This is the paper's linear
    regression (section 3.1) with the model linearised in its parameters.

    Attributes:
        fields: `values`, real numbers (batch), stand in the place of labels.
    """

    fields = ("inputs", "values")

    def forward(self, model: Model, batch: Batch) -> Tensor:
        """Run the model on `inputs`.

        Raises:
            ConfigError: The examples have no `values`.
        """
        if "values" not in batch:
            raise ConfigError(
                f"Regression reads an array `values`, one real number an example, but the examples have "
                f"{', '.join(batch)}. Return trakflow.data.examples.Examples with `values`, or choose another task."
            )
        return model(batch["inputs"])

    def output(self, raw: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
        """The prediction."""
        return raw.reshape(len(raw))

    def loss_gradient(self, raw: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
        """The residual y - f."""
        return batch["values"].float() - self.output(raw, batch).float()

    def curvature(self, raw: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
        """One, whatever the example."""
        return torch.ones_like(self.output(raw, batch), dtype=torch.float32)

    def check(self, raw: Tensor, num_classes: int | None) -> None:
        """One number an example."""
        if raw.ndim == 0 or raw.numel() != 1:
            raise ConfigError(
                f"`model` returns outputs of shape {tuple(raw.shape)} for one example, but regression needs one number "
                "an example: (1,) or (1, 1). Change the model's last layer."
            )

    def loss(self, raw: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, " batch"]:
        """Half the squared error."""
        return (self.output(raw, batch) - batch["values"]).square() / 2
