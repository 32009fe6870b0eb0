"""Settings of methods: those of a method's file, over them those of the experiment, then those of the command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from trakflow.errors import ConfigError
from trakflow.layout import TRAK

PREFIX = "method."


def is_of_method(override: str) -> bool:
    """Whether an override is a setting of a method, which must have been composed to be set."""
    return override.lstrip("+~").startswith(PREFIX)


def method_overrides(experiment: DictConfig, search_path: Sequence[str]) -> list[str]:
    """Return the overrides that compose each method but TRAK, with the experiment's own settings of it.

    Which files of methods there are to compose is known only when the experiment has been composed. Hydra composes them
    after it, so that they win; what the experiment says of them is said again.

    Args:
        experiment: Composed without the methods' files.
        search_path: The override that says where else files lie, if any.

    Raises:
        ConfigError: The experiment has a setting that a method does not.
    """
    methods = [name for name in dict.fromkeys(experiment.methods) if name != TRAK]
    overrides = [f"+method@{PREFIX}{name}={name}" for name in methods]
    for name, own in _sections(experiment).items():
        # Also of methods that are left out, for the errors.
        _check(name, own, search_path)
        if name in methods:
            overrides += [f"++{key}={literal(value)}" for key, value in _leaves(f"{PREFIX}{name}", own)]
        else:
            overrides.append(f"~{PREFIX}{name}")
    return overrides


def _sections(experiment: DictConfig) -> dict[str, dict[str, Any]]:
    raw = experiment.get("method") or {}
    sections = OmegaConf.to_container(raw, resolve=False) if isinstance(raw, DictConfig) else raw
    if not isinstance(sections, dict) or not all(isinstance(own, dict) for own in sections.values()):
        raise ConfigError(f"method must hold a section of settings for each method that it names, but is {sections}.")
    return {str(name): own for name, own in sections.items()}


def _check(name: str, own: Mapping[str, Any], search_path: Sequence[str]) -> None:
    try:
        file = compose(f"method/{name}", overrides=list(search_path)).method
    except MissingConfigException as error:
        raise ConfigError(f"method.{name} has settings, but there is no file method/{name}.yaml.") from error
    # Another class has arguments of its own.
    OmegaConf.set_struct(file, "_target_" not in (own.get("make") or {}))
    try:
        OmegaConf.merge(file, OmegaConf.create(dict(own)))
    except ConfigKeyError as error:
        key = str(error.full_key).removeprefix(PREFIX)
        raise ConfigError(f"method.{name} has no setting `{key}`.") from error


def _leaves(key: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        below = f"{key}.{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(below, value)
        else:
            yield below, value


def literal(value: Any) -> str:
    """Write a plain value as Hydra's command line reads it.

    Raises:
        ConfigError: It is no number, text, boolean, null, or list or mapping of these.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # Backslashes count before a quote, and nowhere else.
        quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        return f"'{quoted}'"
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{literal(below)}" for key, below in value.items()) + "}"
    raise ConfigError(f"{value!r} cannot be a setting of a method; give a number, a text, true, false, null or a list.")
