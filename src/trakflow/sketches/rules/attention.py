"""nn.MultiheadAttention, whose projections are parameters of its own and not modules."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import SketchError
from trakflow.sketches.contributions import Contribution
from trakflow.sketches.rules.base import Call, Rule
from trakflow.sketches.rules.linear import linear_contributions


class AttentionRule(Rule):
    """Computes what the module computes, with its three input projections taken apart.

    Its output projection is an nn.Linear and is called as one.
    """

    covers = frozenset({"in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"})
    calls = ("out_proj",)

    def problem(self, module: nn.Module) -> str | None:
        """Biases appended to keys and values are parameters without an input."""
        assert isinstance(module, nn.MultiheadAttention)
        return "add_bias_kv" if module.bias_k is not None else None

    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """Never asked for: `call` taps each projection on its own."""
        raise NotImplementedError("the three projections have contributions of their own")

    def call(  # noqa: PLR0913, PLR0917 (the signature of nn.MultiheadAttention)
        self,
        call: Call,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Run attention; arguments and results are those of nn.MultiheadAttention."""
        module = call.module
        assert isinstance(module, nn.MultiheadAttention)
        if query.ndim != 3:
            raise SketchError(
                f"{call.path} (MultiheadAttention) was given an input without a batch dimension, which its rule does "
                "not cover; add it, or use sketch=sjlt."
            )
        if is_causal and attn_mask is None:
            raise SketchError(f"{call.path}: is_causal needs attn_mask, as in nn.MultiheadAttention itself.")
        axis = 0 if module.batch_first else 1
        projected = [
            _project(call, number, inputs.movedim(axis, 0)) for number, inputs in enumerate((query, key, value))
        ]
        heads = [part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in projected]
        if module.add_zero_attn:
            heads[1:] = [functional.pad(part, (0, 0, 0, 1)) for part in heads[1:]]
        mask = _merged_mask(module, heads, attn_mask, key_padding_mask)
        if need_weights:
            logits = heads[0] @ heads[1].transpose(-2, -1) * heads[0].shape[-1] ** -0.5
            weights = torch.softmax(logits if mask is None else logits + mask, dim=-1)
            attended = weights @ heads[2]
        else:
            attended = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        output = module.out_proj(attended.transpose(1, 2).flatten(2)).movedim(0, axis)
        if not need_weights:
            return output, None
        return output, weights.mean(dim=1) if average_attn_weights else weights


def _project(call: Call, number: int, inputs: Tensor) -> Tensor:
    """One of the projections of query, key and value, examples first."""
    module: Any = call.module
    size = module.embed_dim
    rows = slice(number * size, (number + 1) * size)
    if module._qkv_same_embed_dim:
        name, first_row, weight = "in_proj_weight", rows.start, module.in_proj_weight[rows]
    else:
        name, first_row = f"{'qkv'[number]}_proj_weight", 0
        weight = getattr(module, name)
    bias = None if module.in_proj_bias is None else module.in_proj_bias[rows]
    found = linear_contributions(call, inputs, {name: first_row, "in_proj_bias": rows.start})
    return call.tap(functional.linear(inputs, weight, bias), found, 0)


def _merged_mask(
    module: nn.MultiheadAttention, heads: list[Tensor], attention: Tensor | None, padding: Tensor | None
) -> Tensor | None:
    """The sum of both masks, to be added to the logits (batch or 1 x heads or 1 x queries or 1 x keys)."""
    batch = len(heads[0])
    merged = None
    if attention is not None:
        attention = _additive(attention, heads[0].dtype)
        merged = attention if attention.ndim == 2 else attention.unflatten(0, (batch, module.num_heads))
    if padding is not None:
        padding = _additive(padding, heads[0].dtype)[:, None, None, :]
        merged = padding if merged is None else merged + padding
    if merged is not None and module.add_zero_attn:
        merged = functional.pad(merged, (0, 1))
    return merged


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of True where attention is forbidden, as numbers to add."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, float("-inf"))
