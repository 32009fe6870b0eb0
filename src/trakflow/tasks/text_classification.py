"""Classification of sentences, by models that are called as those of transformers are."""

from typing import Any

from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.tasks.base import Batch, Model
from trakflow.tasks.classification import Classification

# What the model is called with, of what a batch holds.
MODEL_INPUTS = ("attention_mask", "token_type_ids")


class TextClassification(Classification):
    """Classification with f, Q and W as `Classification` of a model that takes token numbers and a mask.

    A batch holds the token numbers as `inputs` (as data sets do here) or `input_ids` (as those of transformers do),
    `attention_mask` and `token_type_ids` where there are any, and `labels`. The model is called by keyword, as
    ``model(input_ids=..., attention_mask=...)``, and returns logits, or an output of transformers that has `logits`.

    Attributes:
        fields: The order of a batch that is given as a tuple: that of the paper's library.
    """

    fields = ("input_ids", "token_type_ids", "attention_mask", "labels")

    def forward(self, model: Model, batch: Batch) -> Tensor:
        """Return the model's logits."""
        given = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        return logits(model(input_ids=token_numbers(batch), **given))


def token_numbers(batch: Batch) -> Tensor:
    """Return the token numbers of a batch.

    Raises:
        ConfigError: It has none.
    """
    for name in ("input_ids", "inputs"):
        if name in batch:
            return batch[name]
    raise ConfigError(f"The examples have {', '.join(batch)}, but no token numbers: name them input_ids or inputs.")


def logits(returned: Any) -> Tensor:
    """Return the logits of what a model returned.

    Raises:
        ConfigError: It is neither a tensor nor has `logits`.
    """
    found = getattr(returned, "logits", returned)
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"The model returns {type(returned).__name__}; it must return logits, or an output of transformers with "
            "`logits`."
        )
    return found
