"""The four keys that the workflow itself is configured by."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from trakflow.config.compose import CONFIG_ROOT, compose_config, sentences
from trakflow.config.section import Section
from trakflow.errors import ConfigError


class Choice(Section):
    """Which experiment, how it is varied, where the user's own configuration lies, and which container jobs run in."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "digits"
    overrides: list[str] = Field(default_factory=list)
    config_dirs: list[str] = Field(default_factory=list)
    container: str | None = None

    @field_validator("experiment")
    @classmethod
    def _is_no_file(cls, experiment: str) -> str:
        if experiment.endswith((".yaml", ".yml")):
            raise ValueError(f"give the name alone: {experiment.rpartition('.')[0]}")
        return experiment

    @field_validator("overrides")
    @classmethod
    def _leave_the_rules_what_is_theirs(cls, overrides: list[str]) -> list[str]:
        for override in overrides:
            setting, _, value = override.lstrip("+~").partition("=")
            group = re.split("[./@]", setting)[0]
            if setting.partition("@")[0] == "experiment":
                # Its results would be written to the folder of the experiment that `experiment` names.
                raise ValueError(
                    f"`{override}` chooses another experiment, whose results would lie in this one's folder; give it "
                    f"as a key of its own: --config experiment={value or '<name>'}"
                )
            if group in ("job", "hydra"):
                raise ValueError(
                    f"`{override}`: the rules set `job` and `hydra` for each job; leave it out (config/README.md lists "
                    "what an experiment can set; folders of your own go to config_dirs)"
                )
        return overrides


def check_snakemake_config(config: Mapping[str, Any]) -> Choice:
    """Check Snakemake's `config`.

    Raises:
        ConfigError: A key is unknown or of the wrong type.
    """
    try:
        return Choice.model_validate(dict(config))
    except ValidationError as error:
        raise ConfigError(
            "Snakemake's config takes experiment (a name), overrides (a list of Hydra overrides), config_dirs (a list "
            "of folders) and container (an image):\n" + "\n".join(sentences(error))
        ) from None


def with_paper_figures(choice: Choice) -> Choice:
    """Return the choice with the settings of the paper's figures: those named as the experiment, if it has none.

    Raises:
        ConfigError: It has none, and there are none of its name; or it does not compose.
    """
    if any(override.lstrip("+").startswith("paper=") for override in choice.overrides):
        return choice
    if compose_config(choice.experiment, choice.overrides, choice.config_dirs).paper is not None:
        return choice
    folders = [Path(folder) / "paper" for folder in (*choice.config_dirs, str(CONFIG_ROOT))]
    if not any((folder / f"{choice.experiment}.yaml").is_file() for folder in folders):
        known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")} - {"none", "methods"})
        raise ConfigError(
            f"paper_figures compares methods and variants, and no config/paper/{choice.experiment}.yaml says which. "
            f"Write it in a folder of config_dirs, or name one that is there ({', '.join(known)}), for example:"
            f" snakemake --cores all paper_figures --config experiment={choice.experiment}"
            " 'overrides=[\"paper=fashion_mnist\"]'"
        )
    return choice.model_copy(update={"overrides": [f"paper={choice.experiment}", *choice.overrides]})


def with_overrides(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the arguments of Snakemake's `--config` with these Hydra overrides in the place of theirs."""
    others = [argument for argument in arguments if not argument.startswith("overrides=")]
    return [*others, f"overrides={json.dumps(list(overrides))}"]


def check_container(container: str | None, wanted: bool, device: str) -> str | None:
    """Return the container image that jobs run in, as Snakemake takes it.

    Args:
        container: A file, or a URL such as ``docker://...``.
        wanted: Whether Snakemake was told to use containers.
        device: ``cpu`` or ``gpu``: for which of them an image is to be built, if there is none.

    Returns:
        An absolute path or the URL; None where jobs run in no container.

    Raises:
        ConfigError: Containers are wanted and no image is named or there, or one is named and none is wanted.
    """
    if not wanted:
        if container is not None:
            raise ConfigError(f"container={container} would not be used: jobs run in a container with --sdm apptainer.")
        return None
    build = f"apptainer build --build-arg DEVICE={device} trakflow.sif envs/trakflow.def"
    if container is None:
        raise ConfigError(
            "--sdm apptainer needs an image, and none is published. Build one in the checkout and name it:\n"
            f"  {build}\n  snakemake --sdm apptainer --config container=trakflow.sif ..."
        )
    if "://" in container:
        return container
    if not Path(container).exists():
        raise ConfigError(
            f"There is no image {container} (looked from {Path.cwd()}). This builds one in the checkout:\n  {build}"
        )
    return str(Path(container).resolve())
