"""Packages that come with an extra of the installation."""

from importlib import import_module
from importlib.util import find_spec
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
        raise _absent(name, extra) from error


def require_extra(name: str, extra: str) -> None:
    """Look whether a package is installed, without importing it, which takes long for some.

    Args:
        name: The package.
        extra: The extra that brings it.

    Raises:
        ConfigError: It is not installed; says how to install it.
    """
    if find_spec(name) is None:
        raise _absent(name, extra)


def _absent(name: str, extra: str) -> ConfigError:
    return ConfigError(
        f"This needs the package {name}, of trakflow's extra {extra}; in the clone: pip install --editable "
        f"'.[{extra}]'."
    )
