"""Sentences as arrays of token numbers, by the tokenizer of a pretrained model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from trakflow.errors import DataError
from trakflow.extras import import_extra
from trakflow.sources.minilm import pretrained_name


def load_tokenizer(pretrained: str | None, cache: str) -> Any:
    """Return the tokenizer of a pretrained model.

    Args:
        pretrained: A folder, or a name of Hugging Face's hub; None for MiniLM.
        cache: Where MiniLM is kept.

    Raises:
        ConfigError: The extra `text` is not installed.
        DataError: There is no such tokenizer.
    """
    transformers = import_extra("transformers", "text")
    name = pretrained_name(pretrained, cache)
    try:
        return transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"pretrained={name} holds no tokenizer, or cannot be reached ({reason}).") from error


def token_arrays(
    tokenizer: Any, texts: Sequence[str], length: int, pairs: Sequence[str] | None = None
) -> dict[str, Int64[np.ndarray, "n length"]]:
    """Return token numbers, padded at the end or cut to one length.

    Args:
        tokenizer: Of transformers.
        texts: The sentences, or the first of each two.
        length: Tokens of each, with the special ones; of two that are too long, the longer is cut first.
        pairs: The second of each two.

    Returns:
        inputs, attention_mask (1 where there is a token) and, where the tokenizer tells sentences apart,
        token_type_ids.
    """
    both = (list(texts),) if pairs is None else (list(texts), list(pairs))
    found = tokenizer(*both, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    arrays = {"inputs" if name == "input_ids" else name: np.asarray(array, np.int64) for name, array in found.items()}
    # Of single sentences all are 0, which is what a model takes in their absence.
    if pairs is None:
        arrays.pop("token_type_ids", None)
    return arrays
