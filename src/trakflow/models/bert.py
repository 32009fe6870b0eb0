"""A classifier of sentences: BERT (Devlin et al. 2019) with a linear layer on the mean over its tokens."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
import xxhash
from jaxtyping import Float, Int
from torch import Tensor, nn

from trakflow.errors import CheckpointError, DataError
from trakflow.extras import import_extra
from trakflow.sources import minilm

Tokens = Int[Tensor, "batch length"]


class BertClassifier(nn.Module):
    """Logits of sentences.

    It can be called under ``torch.func.vmap``: it makes the mask of the attention itself, as the one of transformers
    looks at its values.

    Args:
        bert: A BertModel of transformers.
        classes: Number of classes.
        pooling: What the logits are taken of: the `mean` over the tokens that the mask admits, or the `first` token.
        freeze_embeddings: Keep the embeddings and their normalisation as they are. They are then no parameters and
            in no checkpoint, which holds a checksum of them instead.
    """

    frozen_embeddings: Tensor

    def __init__(
        self,
        bert: nn.Module,
        classes: int,
        pooling: Literal["mean", "first"] = "mean",
        freeze_embeddings: bool = False,
    ):
        super().__init__()
        self.bert = bert
        self.pooling = pooling
        self.classifier = nn.Linear(bert.config.hidden_size, classes)  # type: ignore[union-attr, arg-type]
        if freeze_embeddings:
            self.register_buffer("frozen_embeddings", torch.tensor(_freeze(bert.embeddings)))  # type: ignore[arg-type]

    def forward(
        self, input_ids: Tokens, attention_mask: Tokens | None = None, token_type_ids: Tokens | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return logits.

        Args:
            input_ids: Token numbers.
            attention_mask: 1 where there is a token and 0 where there is padding; None for no padding.
            token_type_ids: Of pairs, 0 in the first sentence and 1 in the second; None for one sentence.
        """
        dtype = self.classifier.weight.dtype
        seen = torch.ones_like(input_ids, dtype=dtype) if attention_mask is None else attention_mask.to(dtype)
        blocked = (1 - seen)[:, None, None, :] * torch.finfo(dtype).min
        states = self.bert(input_ids=input_ids, attention_mask=blocked, token_type_ids=token_type_ids)[0]
        if self.pooling == "first":
            return self.classifier(states[:, 0])
        weights = seen / seen.sum(dim=1, keepdim=True)
        return self.classifier((weights.unsqueeze(-1) * states).sum(dim=1))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        name = f"{prefix}frozen_embeddings"
        own = getattr(self, "frozen_embeddings", None)
        if own is not None and name in state_dict and not torch.equal(state_dict[name].cpu(), own.cpu()):
            raise CheckpointError(
                "This checkpoint was trained on other embeddings than those of `pretrained`, which are frozen and not "
                "in it. Name the pretrained model that it was trained from."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def bert_classifier(
    classes: int,
    layers: int | None = None,
    pooling: Literal["mean", "first"] = "mean",
    freeze_embeddings: bool = False,
    dropout: float | None = None,
    pretrained: str | None = None,
    cache: str = minilm.CACHE,
    attention: str = "eager",
) -> BertClassifier:
    """Return a pretrained BERT with an untrained layer of `classes` logits.

    Args:
        classes: Number of classes.
        layers: Keep only the first so many of its layers; None for all.
        pooling: As for `BertClassifier`.
        freeze_embeddings: As for `BertClassifier`.
        dropout: Probability of BERT's dropouts while it trains; None for its own.
        pretrained: A folder, or a name of Hugging Face's hub; None for MiniLM.
        cache: Where MiniLM is kept.
        attention: `attn_implementation` of transformers.

    Raises:
        DataError: The model cannot be had, or lacks weights of a BERT.
        ConfigError: The extra `text` is not installed.
    """
    bert = _pretrained(minilm.pretrained_name(pretrained, cache), layers, dropout, attention)
    # Embeddings that stay as they are need not be there once a model.
    shared = list(bert.embeddings.parameters()) if freeze_embeddings else []  # type: ignore[union-attr]
    own = copy.deepcopy(bert, {id(parameter): parameter for parameter in shared})
    return BertClassifier(own, classes, pooling, freeze_embeddings)


@lru_cache(maxsize=1)
def _pretrained(name: str, layers: int | None, dropout: float | None, attention: str) -> nn.Module:
    """Read a BERT, once a process: many models are trained from the same one."""
    transformers = import_extra("transformers", "text")
    settings: dict[str, Any] = {"attn_implementation": attention, "add_pooling_layer": False}
    if layers is not None:
        settings["num_hidden_layers"] = layers
    if dropout is not None:
        settings |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    try:
        with _quiet(transformers):
            bert, info = transformers.BertModel.from_pretrained(name, output_loading_info=True, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"pretrained={name} holds no BERT, or cannot be reached ({reason}).") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise DataError(
            f"pretrained={name} lacks {len(missing)} weights of a BERT, such as {missing[0]}: it is of another "
            f"architecture, or has fewer than {layers} layers."
        )
    return bert


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Not tell of weights that are left out on purpose."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _freeze(embeddings: nn.Module) -> int:
    """Make a module's parameters buffers that no checkpoint holds; return a checksum of them."""
    digest = xxhash.xxh3_64()
    for module in embeddings.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            delattr(module, name)
            module.register_buffer(name, parameter.detach(), persistent=False)
    # Of 64 bits, those that a signed number holds.
    return digest.intdigest() >> 1
