"""Which parameters features are gradients by."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from trakflow.errors import ConfigError


def differentiated_parameters(model: nn.Module, patterns: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the parameters with `requires_grad`, by name; a tied one once.

    Args:
        model: The model.
        patterns: Only those whose name matches one of these, with the wildcards of a shell (`*.weight`); None for all.

    Returns:
        Detached tensors, in the model's order.

    Raises:
        ConfigError: A pattern matches none of them, or there are none at all.
    """
    found = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    if not found:
        raise ConfigError(
            "No parameter of the model has requires_grad, so there is no gradient to take. Set it for those that were "
            "trained; adapters of PEFT have it when they are loaded with is_trainable=True."
        )
    if patterns is None:
        return found
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ConfigError(
                f"sketch.parameters: '{pattern}' matches no parameter with requires_grad; there are, for example, "
                f"{', '.join(list(found)[:8])}."
            )
    return {name: value for name, value in found.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
