"""Gradient aggregated similarity (Hammoudeh & Lowd 2022, arXiv 2201.10055): TracIn with gradients of length one."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.methods.gradients import check_gradients, gradients, sketch_settings, target_gradients


class GradientAggregatedSimilarity(CheckpointMethod):
    """Cosine of the gradients of -loss and of f, averaged over checkpoints.

    The gradient of -loss is Q times that of f, so its direction is that of f's gradient, turned where Q is negative.

    Args:
        sketch: Settings of a sketch, as the group `sketch` has them; None for whole gradients.
    """

    def __init__(self, sketch: dict[str, Any] | None = None):
        self._sketch = sketch_settings(sketch)

    def check(self, planned: Planned) -> None:
        """Refuse a sketch that does not fit the model."""
        check_gradients(planned, self._sketch)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """sign(Q_i) cos(grad f_i, grad f(z)); 0 where a gradient is 0."""
        targets = functional.normalize(target_gradients(trained, self._sketch), dim=1)
        rows = []
        for _, found in gradients(trained, self._sketch):
            similarity = functional.normalize(found.features, dim=1) @ targets.T
            rows.append(torch.sign(found.loss_gradients)[:, None] * similarity)
        return torch.cat(rows)
