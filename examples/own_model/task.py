"""A task of one's own: which scalar of the model is attributed, and how the training loss depends on it."""

import torch
from torch.nn import functional

from trakflow.tasks.base import Batch, Task


class LogProbability(Task):
    """f = log p, the log-probability of the label.

    A task needs `output` (the scalar f) and `loss_gradient` (Q = -dloss/df). The training loss must depend on the model
    through f alone, so that by the chain rule an example pulls the parameters along Q times the gradient of f. Here the
    loss is the cross-entropy that train.py minimises, which is -f itself, so

        Q = -d(-f)/df = 1    and    W = d2(-f)/df2 = 0.

    The gradient of f already holds the factor 1 - p that trakflow's ``Classification``, with f = log(p / (1 - p)), has
    in Q; and the unweighted Gram matrix of these gradients is the empirical Fisher information. With W = 0 there is
    nothing to weight it by: `curvature` stays undefined, and ``config/experiment/own_task.yaml`` says so by
    ``solver.weights: "off"``.

    Methods are called under ``torch.func`` transforms, so they must not branch on values.
    """

    def output(self, raw: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return log p of each example's label; `raw` is what the model returned (batch x classes)."""
        return functional.log_softmax(raw, dim=-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)

    def loss_gradient(self, raw: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return Q = 1 of each example."""
        return torch.ones_like(self.output(raw, batch))

    def predicted(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the label of the largest logit; only ``targets.output=predicted`` asks for it."""
        return raw.argmax(dim=-1)
