"""Packages that come with an extra of the installation."""

from importlib import import_module
from types import ModuleType

from trakflow.errors import ConfigError


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a package that the base installation does not have.

    Args:
        name: The package.
        extra: The extra that brings it.

    Raises:
        ConfigError: It is not installed; says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"This needs the package {name}, of trakflow's extra {extra}; in the clone: pip install --editable "
            f"'.[{extra}]'."
        ) from error
