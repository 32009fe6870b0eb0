"""A small GPT-2 (Radford et al. 2019): the class of transformers, untrained."""

from typing import TYPE_CHECKING, Any

from trakflow.errors import ConfigError
from trakflow.extras import import_extra

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def gpt2(vocabulary: int, length: int, width: int, layers: int, heads: int) -> "GPT2LMHeadModel":
    """Return a GPT-2 language model with random weights.

    It draws no random numbers while it trains (no dropout), and its attention is computed step by step, so that many
    of them can be trained as one.

    Args:
        vocabulary: Number of tokens.
        length: Of the longest sequence.
        width: Of the hidden states.
        layers: Transformer blocks.
        heads: Attention heads of a block.

    Raises:
        ConfigError: transformers is not installed, or heads do not divide the width.
    """
    transformers = import_extra("transformers", "text")
    if width % heads:
        raise ConfigError(f"heads={heads} does not divide width={width}.")
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "n_positions": length,
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0),
        # Those of the published vocabulary would be outside this one.
        **dict.fromkeys(("bos_token_id", "eos_token_id")),
        "attn_implementation": "eager",
        "use_cache": False,
    }
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
