"""The three keys that the workflow itself is configured by."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from trakflow.config.compose import sentences
from trakflow.config.schema import Section
from trakflow.errors import ConfigError


class Choice(Section):
    """Which experiment, how it is varied, and where the user's own configuration lies."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "digits"
    overrides: list[str] = Field(default_factory=list)
    config_dirs: list[str] = Field(default_factory=list)


def check_snakemake_config(config: Mapping[str, Any]) -> Choice:
    """Check Snakemake's `config`.

    Raises:
        ConfigError: A key is unknown or of the wrong type.
    """
    try:
        return Choice.model_validate(dict(config))
    except ValidationError as error:
        raise ConfigError(
            "Snakemake's config takes experiment (a name), overrides (a list of Hydra overrides) and config_dirs (a "
            "list of folders):\n" + "\n".join(sentences(error))
        ) from None
