"""Which rule a type of module has."""

from torch import nn

from trakflow.sketches.rules.attention import AttentionRule
from trakflow.sketches.rules.base import Rule
from trakflow.sketches.rules.convolution import ConvolutionRule
from trakflow.sketches.rules.embedding import EmbeddingRule
from trakflow.sketches.rules.linear import LinearRule, TransposedLinearRule
from trakflow.sketches.rules.normalization import BatchNormRule, GroupNormRule, LayerNormRule, RMSNormRule

_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: LinearRule(),
    nn.Conv1d: ConvolutionRule(),
    nn.Conv2d: ConvolutionRule(),
    nn.Conv3d: ConvolutionRule(),
    nn.Embedding: EmbeddingRule(),
    nn.LayerNorm: LayerNormRule(),
    nn.RMSNorm: RMSNormRule(),
    nn.GroupNorm: GroupNormRule(),
    nn.BatchNorm1d: BatchNormRule(),
    nn.BatchNorm2d: BatchNormRule(),
    nn.BatchNorm3d: BatchNormRule(),
    nn.MultiheadAttention: AttentionRule(),
}


def register_rule(module_type: type[nn.Module], rule: Rule) -> None:
    """Teach the sketches `tensor_sketch` and `factorized` a type of module.

    Args:
        module_type: The type; a subclass shares the rule if it does not override `forward`.
        rule: What the gradients of its parameters are made of.
    """
    _RULES[module_type] = rule


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule of a module's type, or None."""
    computes = type(module).forward
    for ancestor in type(module).__mro__:
        # A subclass that computes something else is another type of module.
        if ancestor in _RULES and issubclass(ancestor, nn.Module) and ancestor.forward is computes:
            return _RULES[ancestor]
    return TransposedLinearRule.for_transformers(module)
