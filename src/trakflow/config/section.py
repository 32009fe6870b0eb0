"""What sections of the configuration are made of: closed models, and components that a `_target_` makes."""

import importlib.util
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check_component(value: dict[str, Any]) -> dict[str, Any]:
    target = value.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise ValueError("needs `_target_: package.module.name`, the callable that makes it")
    if unset := [name for name, argument in value.items() if argument == "???"]:
        raise ValueError(f"`{unset[0]}` is required and was not set")
    try:
        exists = _module_exists(target)
    except Exception as error:
        raise ValueError(f"`_target_: {target}` cannot be imported: {type(error).__name__}: {error}") from error
    if not exists:
        raise ValueError(
            f"`_target_: {target}` names no importable module; install its package, or put the module beside a folder "
            "listed in `config_dirs`"
        )
    return value


def _module_exists(target: str) -> bool:
    # Nested classes have several trailing names, so any importable prefix will do. Looking for a module runs the
    # packages around it, as Python must, but not the module itself.
    parts = target.split(".")[:-1]
    for length in range(len(parts), 0, -1):
        try:
            if importlib.util.find_spec(".".join(parts[:length])) is not None:
                return length == len(parts) or parts[length][:1].isupper()
        except ModuleNotFoundError:
            continue
    return False


Component = Annotated[dict[str, Any], AfterValidator(_check_component)]


# Counts are multiplied by fractions, which is exact up to here; no data set comes near.
PositiveInt = Annotated[int, Field(gt=0, lt=2**53)]


class Section(BaseModel):
    """A part of the configuration: frozen, closed to unknown keys, and strict about types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
