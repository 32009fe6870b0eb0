"""What the gradients of each type of module are made of: one file a module family, one registry."""

from trakflow.sketches.rules.base import Call, Rule
from trakflow.sketches.rules.registry import register_rule, rule_for

__all__ = ["Call", "Rule", "register_rule", "rule_for"]
