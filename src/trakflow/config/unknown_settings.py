"""What Hydra says of settings that there are not, said again: its own advice, to add them, helps only in components."""

import re
from collections.abc import Sequence
from typing import get_args, get_origin

from trakflow.config.method_settings import PREFIX, is_of_method
from trakflow.config.schema import Config
from trakflow.config.section import Section
from trakflow.errors import ConfigError

# In Hydra's words: an override of a key that is not there.
OVERRIDE = re.compile(r"Could not override '([^']+)'\.\s+To append to your config use")
CHOICE = re.compile(r"\+*method=(\w+)")


def refuse_choice_of_method(overrides: Sequence[str]) -> None:
    """Refuse `method=<name>`, which is how every other group is chosen from.

    Raises:
        ConfigError: Says how methods are chosen.
    """
    for override in overrides:
        if found := CHOICE.fullmatch(override):
            raise ConfigError(
                f"`{override}`: there can be several methods, so they are chosen by a list: methods=[trak,{found[1]}]."
            )


def refuse_settings_of_others(overrides: Sequence[str], methods: Sequence[str]) -> None:
    """Refuse settings of methods that are not among those chosen.

    Raises:
        ConfigError: Says how the method is chosen.
    """
    for override in filter(is_of_method, overrides):
        name = re.split("[.=]", override.lstrip("+~").removeprefix(PREFIX))[0]
        if name not in methods:
            chosen = ",".join(dict.fromkeys([*methods, name]))
            raise ConfigError(
                f"`{override}` is a setting of method {name}, which methods=[{','.join(methods)}] leaves out; add it: "
                f"methods=[{chosen}]."
            )


def unknown_setting(error: str) -> str | None:
    """Return what is wrong with a setting that Hydra did not find, by the schema.

    Args:
        error: Hydra's words.

    Returns:
        A sentence; None where they are about something else, or the setting can be added.
    """
    found = OVERRIDE.search(error)
    if found is None or (place := _place(Config, [], found[1].split("."))) is None:
        return None
    where, section = place
    known = ", ".join(name for name in section.model_fields if name != "job")
    return f"{found[1]}: there is no such setting; {'.'.join(where) or 'a configuration'} has {known}."


def _place(section: type[Section], where: list[str], key: list[str]) -> tuple[list[str], type[Section]] | None:
    """The section that lacks a key, and where it is; None where none does, or where a component may have it."""
    if not key:
        return None
    if key[0] not in section.model_fields:
        return where, section
    annotation = section.model_fields[key[0]].annotation
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    below = next((kind for kind in kinds if issubclass(kind, Section)), None)
    # Of a mapping to sections, as of methods, the second part is a name.
    taken = 2 if get_origin(annotation) is dict else 1
    return None if below is None else _place(below, [*where, *key[:taken]], key[taken:])
