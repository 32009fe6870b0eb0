"""Checkpoints that hold only the adapters of a PEFT model (LoRA and its like), as its `save_pretrained` writes them."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PREFIX = "base_model.model."


def adapters_meant(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the adapters' tensors that a state dict gives values for, under the names of PEFT's files.

    Args:
        model: Any model.
        state: A state dict.

    Returns:
        None where the model is not one of PEFT's, or the state dict names parameters as the model does.
    """
    # A model of PEFT's has imported it.
    if "peft" not in sys.modules:
        return None
    from peft import PeftModel, get_peft_model_state_dict

    if not isinstance(model, PeftModel):
        return None
    # Not left to PEFT, which would ask the model hub whether the vocabulary was changed.
    choices = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for embeddings in (False, True):
            names: Any = get_peft_model_state_dict(
                model, adapter_name=_adapter(model), save_embedding_layers=embeddings
            )
            choices.append(dict(names))
    for choice in choices:
        if state.keys() == choice.keys():
            return choice
    own = choices[0].keys() - model.state_dict().keys()
    return choices[0] if own & state.keys() else None


def load_adapters(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load adapters into a model of PEFT's whose `adapters_meant` have these names and shapes; the rest of it stays."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, dict(state), adapter_name=_adapter(model))


def _adapter(model: Any) -> str:
    return str(model.active_adapter)


def are_adapters(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict looks like one of PEFT's."""
    return bool(names) and all(name.startswith(PREFIX) for name in names)
