"""nn.Embedding."""

from torch import Tensor, nn

from trakflow.sketches.contributions import Contribution, Kept, Lookup
from trakflow.sketches.rules.base import Call, Rule


class EmbeddingRule(Rule):
    """y_p = W[index_p]: row index_p of the gradient gets grad(y_p)."""

    covers = frozenset({"weight"})

    def problem(self, module: nn.Module) -> str | None:
        """Gradients rescaled by frequency, or weights changed by the forward pass, are not covered."""
        assert isinstance(module, nn.Embedding)
        if module.max_norm is not None:
            return "max_norm, which changes the weights in the forward pass"
        return "scale_grad_by_freq, which mixes the examples of a batch" if module.scale_grad_by_freq else None

    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """The weight."""
        indices = Kept(inputs.reshape(call.batch, -1).long(), call.path)
        assert isinstance(call.module, nn.Embedding)
        return [Lookup(call.names["weight"], indices, call.module.padding_idx)]
