"""Classification with the paper's output function, the log-odds of the label (paper, section 3.3 and appendix)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Task


class Classification(Task):
    """f = log(p / (1 - p)) with p the softmax probability of the label, trained by cross-entropy.

    As -log(p) = log(1 + exp(-f)), Q = 1 - p = sigmoid(-f) and W = p (1 - p) = sigmoid(f) sigmoid(-f); written by f,
    they stay exact where p rounds to one.
    """

    def output(self, raw: Float[Tensor, "batch classes"], batch: Batch) -> Float[Tensor, " batch"]:
        """g_y - logsumexp of the other logits."""
        label = batch["labels"].unsqueeze(-1)
        own = raw.gather(-1, label).squeeze(-1)
        others = raw.scatter(-1, label, float("-inf"))
        return own - torch.logsumexp(others, dim=-1)

    def loss_gradient(self, raw: Float[Tensor, "batch classes"], batch: Batch) -> Float[Tensor, " batch"]:
        """1 - p."""
        return torch.sigmoid(-self.output(raw.float(), batch))

    def curvature(self, raw: Float[Tensor, "batch classes"], batch: Batch) -> Float[Tensor, " batch"]:
        """The variance of the label, p (1 - p)."""
        output = self.output(raw.float(), batch)
        return torch.sigmoid(output) * torch.sigmoid(-output)

    def check(self, raw: Tensor, num_classes: int | None) -> None:
        """One logit a class."""
        if raw.ndim != 2 or (num_classes is not None and raw.shape[1] != num_classes):
            raise ConfigError(
                f"`model` returns outputs of shape {tuple(raw.shape)} for one example, but data.num_classes is "
                f"{num_classes}: expected (1, {num_classes}), a logit a class. Change the model's last layer, or "
                "data.num_classes."
            )

    def check_arrays(self, batch: Batch) -> None:
        """The number of a class for each example, as `labels`."""
        labels = batch.get("labels")
        if labels is None:
            raise ConfigError(
                f"`task` is {type(self).__name__}, which reads the class of each example from an array `labels`, but "
                f"the examples have {', '.join(batch)}. Choose the task that the data is for (task=regression for "
                "`values`, task=language_modeling for texts without labels), or return examples with labels."
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ConfigError(
                f"`task` is {type(self).__name__}, whose `labels` are the numbers of classes, but those of the "
                f"examples have dtype {labels.dtype}. Give integers; or choose task=regression, with `values`."
            )

    def loss(self, raw: Float[Tensor, "batch classes"], batch: Batch) -> Float[Tensor, " batch"]:
        """Cross-entropy."""
        return functional.cross_entropy(raw, batch["labels"], reduction="none")

    def predicted(self, raw: Float[Tensor, "batch classes"]) -> Int[Tensor, " batch"]:
        """The label of the largest logit."""
        return raw.argmax(dim=-1)
