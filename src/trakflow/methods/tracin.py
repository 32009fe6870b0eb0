"""TracIn (Pruthi et al. 2020, arXiv 2002.08484): what a step of SGD on an example does to f, to first order."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.methods.gradients import check_gradients, gradients, sketch_settings, target_gradients


class TracIn(CheckpointMethod):
    """Learning rate times the product of the gradients of -loss and of f: a step on example i raises f(z) by that much.

    Args:
        learning_rates: That of each checkpoint, by which they are weighted (section 3.2); a number for all of them.
        sketch: Settings of a sketch, as the group `sketch` has them; None for whole gradients.
    """

    def __init__(self, learning_rates: float | Sequence[float] = 1.0, sketch: dict[str, Any] | None = None):
        self._learning_rates = learning_rates
        self._sketch = sketch_settings(sketch)

    def check(self, planned: Planned) -> None:
        """Refuse too few learning rates, and a sketch that does not fit the model."""
        self._learning_rate(planned.counts[-1] - 1)
        check_gradients(planned, self._sketch)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Q_i eta grad f_i . grad f(z), as grad(-loss) = Q grad f."""
        rate = self._learning_rate(trained.number)
        targets = target_gradients(trained, self._sketch)
        rows = []
        for _, found in gradients(trained, self._sketch):
            rows.append(rate * found.loss_gradients[:, None] * (found.features @ targets.T))
        return torch.cat(rows)

    def _learning_rate(self, number: int) -> float:
        if isinstance(self._learning_rates, (int, float)):
            return float(self._learning_rates)
        if number >= len(self._learning_rates):
            raise ConfigError(
                f"learning_rates of method TracIn has {len(self._learning_rates)} entries, and there is a checkpoint "
                f"number {number}; give one a checkpoint, or one number for all."
            )
        return float(self._learning_rates[number])
