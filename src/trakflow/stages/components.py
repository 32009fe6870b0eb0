"""Components: what a mapping with `_target_` in the configuration makes. No torch: a data set may need none."""

import sys
from collections.abc import Mapping
from typing import Any

import hydra.utils
from hydra.errors import HydraException

from trakflow.errors import ConfigError


def instantiate(component: Mapping[str, Any], setting: str) -> Any:
    """Call a component's `_target_` with its arguments.

    Raises:
        ConfigError: It cannot be found or refuses its arguments.
    """
    try:
        # Arguments arrive as plain lists and dictionaries, not as those of the configuration.
        return hydra.utils.instantiate(dict(component), _convert_="all")
    except (HydraException, TypeError) as error:
        cause = _missing_name(str(component["_target_"])) or error.__cause__ or error
        raise ConfigError(f"`{setting}` ({component['_target_']}) cannot be made: {cause}") from error


def _missing_name(target: str) -> str | None:
    """Say which names a module does have, where the one asked for is what is missing."""
    module_name, _, name = target.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None or hasattr(module, name):
        return None
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
    file = getattr(module, "__file__", "")
    return f"module {module_name} ({file}) has no `{name}`; it has {', '.join(own) or 'nothing'}"
