"""Causal language modelling: what an autoregressive model says of a sequence, or of some of its tokens.

Notation: p_t is the probability that the model gives token t after the tokens before it, and log P is the mean of
log p_t over the labelled tokens of a sequence. Models are trained by the mean negative log-likelihood, -log P. Both
outputs here are functions of P, so that the loss is a function of the output and its derivatives are exact, however
many tokens are labelled. (Of a sum of the tokens' log-odds it is none.) With a single labelled token, P is that token's
probability and the log-odds are the output function of the paper (Park et al. 2023, section 3.3).

Labelled are the tokens whose label is not -100, that are no padding, and that come after one that is none: never the
first. Without `labels`, all are. To ask why a model said one word, label that word alone.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Model, Task
from trakflow.tasks.text_classification import logits, token_numbers

# What Hugging Face's data collators put where there is nothing to predict.
IGNORED = -100
# Below exp(-40), exp(x) - 1 and log(1 + x) are x to the last bit of float64.
SMALL_LOG = -40.0


class LogProbability(Task):
    """f = log P, the mean log-probability of the labelled tokens; its training loss is -f.

    So Q = 1, and W = d2loss/df2 is zero: there is none. A batch holds the token numbers as `input_ids` (as the data
    collators of transformers make them) or `inputs` (as data sets do here), and may hold `attention_mask`, `labels`,
    and whatever else the model takes by name. Pad on the right, or give `position_ids`. A sequence without a labelled
    token has no output: it is NaN, which is refused.
    """

    fields = ("input_ids", "attention_mask", "labels")

    def forward(self, model: Model, batch: Batch) -> Float[Tensor, "batch length vocabulary"]:
        """Logits; of what the model returns, the `logits` where it has them."""
        tokens = token_numbers(batch)
        others = {name: value for name, value in batch.items() if name not in ("input_ids", "inputs", "labels")}
        found = logits(model(input_ids=tokens, **others))
        if found.ndim != 3:
            raise ConfigError(
                f"The model returned logits of shape {tuple(found.shape)} for tokens of shape {tuple(tokens.shape)}; "
                "language modelling needs logits of every token (batch, length, vocabulary)."
            )
        return found

    def output(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """The mean of log p over labelled tokens."""
        return -self.loss(_at_least_float32(raw), batch)

    def loss_gradient(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """1: the loss is -f."""
        return torch.ones(len(raw), dtype=torch.float32, device=raw.device)

    def loss(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """Cross-entropy, averaged over the labelled tokens of each sequence."""
        labels, labelled = labelled_tokens(batch)
        # All positions in one piece: cutting off the last would copy the logits, and another order of axes is slower.
        losses = functional.cross_entropy(raw.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        return losses.masked_fill(~labelled, 0).sum(-1) / labelled.sum(-1)

    def check(self, raw: Tensor, num_classes: int | None) -> None:
        """A vocabulary is no set of classes.

        Raises:
            ConfigError: data.num_classes is set.
        """
        if num_classes is not None:
            raise ConfigError(
                f"data.num_classes is {num_classes}, but a language model has no classes; set it to null."
            )


class LogOdds(LogProbability):
    """f = log(P / (1 - P)) with P the geometric mean of the labelled tokens' probabilities.

    The loss is -log P = log(1 + exp(-f)), so that Q = 1 - P = sigmoid(-f) and W = P (1 - P) = sigmoid(f) sigmoid(-f).
    Batches are as for `LogProbability`.
    """

    def output(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """-log(exp(loss) - 1), from the log-odds of the tokens, so that it stays exact where p rounds to one."""
        labels, labelled = labelled_tokens(batch)
        index, raw = labels.unsqueeze(-1), _at_least_float32(raw)
        own = raw.gather(-1, index).squeeze(-1)
        others = torch.logsumexp(raw.scatter(-1, index, float("-inf")), dim=-1)
        log_losses = _log_softplus(others - own)
        log_total = torch.logsumexp(log_losses.masked_fill(~labelled, float("-inf")), dim=-1)
        log_loss = log_total - labelled.sum(-1).to(log_total.dtype).log()
        return -_log_expm1(log_loss)

    def loss_gradient(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """1 - P."""
        return torch.sigmoid(-self.output(raw, batch).float())

    def curvature(self, raw: Float[Tensor, "batch length vocabulary"], batch: Batch) -> Float[Tensor, " batch"]:
        """P (1 - P)."""
        output = self.output(raw, batch).float()
        return torch.sigmoid(output) * torch.sigmoid(-output)


def labelled_tokens(batch: Batch) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    """Return which token each position is to predict, and whether that one counts; 0 where it does not."""
    following = (batch["labels"] if "labels" in batch else token_numbers(batch))[:, 1:]
    labelled = following != IGNORED
    if "attention_mask" in batch:
        real = batch["attention_mask"].bool()
        labelled = labelled & real[:, 1:] & real[:, :-1]
    # Nothing follows the last.
    return functional.pad(following.masked_fill(~labelled, 0), (0, 1)), functional.pad(labelled, (0, 1))


def _at_least_float32(raw: Tensor) -> Tensor:
    return raw.float() if raw.itemsize < 4 else raw


def _log_softplus(value: Tensor) -> Tensor:
    """log(log(1 + exp(value)))."""
    small = value < SMALL_LOG
    safe = value.masked_fill(small, 0)
    return torch.where(small, value, torch.logaddexp(safe, torch.zeros_like(safe)).log())


def _log_expm1(log_value: Tensor) -> Tensor:
    """log(exp(value) - 1), of a value given by its logarithm."""
    small = log_value < SMALL_LOG
    value = log_value.masked_fill(small, 0).exp()
    # Values above 1 as value + log(1 - exp(-value)): exp(value) may overflow. Each branch only sees what it can take.
    large = value > 1
    of_large = value + torch.log1p(-torch.exp(-value.clamp(min=1)))
    of_others = torch.expm1(value.clamp(max=1)).log()
    return torch.where(small, log_value, torch.where(large, of_large, of_others))
