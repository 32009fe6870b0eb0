"""Composing and checking a configuration, for the Snakefile, the scripts and the tests alike."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import ValidationError

from trakflow.config.method_settings import is_of_method, method_overrides
from trakflow.config.schema import Config
from trakflow.config.unknown_settings import refuse_choice_of_method, refuse_settings_of_others, unknown_setting
from trakflow.errors import ConfigError

CONFIG_ROOT = Path(__file__).resolve().parents[3] / "config"


def add_import_paths(config_dirs: Sequence[Path | str]) -> None:
    """Make modules inside or beside the user's config folders importable, for their `_target_` entries."""
    for folder in config_dirs:
        for path in (Path(folder).resolve(), Path(folder).resolve().parent):
            if str(path) not in sys.path:
                sys.path.append(str(path))


def search_path_override(config_dirs: Sequence[Path | str]) -> list[str]:
    """Return the Hydra override that adds the user's config folders, or nothing."""
    if not config_dirs:
        return []
    folders = ",".join(f"'file://{Path(folder).resolve()}'" for folder in config_dirs)
    return [f"hydra.searchpath=[{folders}]"]


def compose_config(experiment: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path | str] = ()) -> Config:
    """Compose an experiment from the Hydra root and the user's folders, and check it.

    Args:
        experiment: A file name under `experiment/`, without `.yaml`.
        overrides: Hydra overrides, for example ``"sketch.k=1024"``.
        config_dirs: Folders searched beside `config/`; modules in or beside them are importable.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: Unknown experiment, key, option, wrong type or an impossible combination.
    """
    return compose_with_arguments(experiment, overrides, config_dirs)[0]


def compose_with_arguments(
    experiment: str, overrides: Sequence[str], config_dirs: Sequence[Path | str]
) -> tuple[Config, list[str]]:
    """Return as well the whole command line of overrides by which a script composes the same; see `compose_config`."""
    if not CONFIG_ROOT.is_dir():
        raise ConfigError(
            f"trakflow is installed in {Path(__file__).parents[1]} without its configuration. The workflow runs from a "
            "clone: install it by pip install --editable path/to/the/clone."
        )
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise ConfigError(f"config_dirs: there is no folder {folder} (looked from {Path.cwd()}).")
        _refuse_names_of_ours(Path(folder))
    add_import_paths(config_dirs)
    try:
        raw, arguments = _composed(experiment, overrides, search_path_override(config_dirs))
        return checked(raw), arguments
    except ConfigError:
        raise
    except Exception as error:
        # Hydra and OmegaConf have errors of their own, and let others through from what is below them.
        raise ConfigError(
            f"The configuration of experiment '{experiment}' cannot be composed: "
            f"{unknown_setting(str(error)) or _sentence(error)}"
        ) from error


def _composed(experiment: str, overrides: Sequence[str], search_path: Sequence[str]) -> tuple[DictConfig, list[str]]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_ROOT), version_base="1.3"):
        # Which files of methods there are to compose is itself a setting.
        refuse_choice_of_method(overrides)
        first = [*search_path, f"experiment={experiment}"]
        general = [*first, *(item for item in overrides if not is_of_method(item))]
        raw = compose("config", overrides=general)
        if not isinstance(raw.methods, ListConfig) or not all(isinstance(name, str) for name in raw.methods):
            names = dict.fromkeys(["trak", raw.methods] if isinstance(raw.methods, str) else ["trak"])
            raise ConfigError(
                f"methods must be a list of names, for example [{','.join(names)}], but is {raw.methods}."
            )
        refuse_settings_of_others(overrides, list(raw.methods))
        arguments = [*first, *method_overrides(raw, search_path), *overrides]
        return (raw if arguments == general else compose("config", arguments)), arguments


def _refuse_names_of_ours(folder: Path) -> None:
    # Hydra would take the first it finds, which is ours, without a word.
    for path in sorted(folder.resolve().rglob("*.yaml")):
        name = path.relative_to(folder.resolve())
        if (CONFIG_ROOT / name).is_file():
            raise ConfigError(
                f"{folder / name} has the name of one of trakflow's own files, which would win; rename it."
            )


def _sentence(error: BaseException) -> str:
    parts = [str(error).strip()]
    if error.__cause__ is not None and str(error.__cause__) not in parts[0]:
        parts.append(str(error.__cause__).strip())
    return " ".join(" ".join(parts).split())


def checked(raw: DictConfig) -> Config:
    """Check a composed configuration against the schema.

    Raises:
        ConfigError: Names every offending key with what was given and what is possible.
    """
    try:
        container = OmegaConf.to_container(raw, resolve=True)
    except InterpolationToMissingValueError as error:
        # It names the setting that refers to one which was not set, not that one.
        lines = [f"  {key}: is required and was not set" for key in _unset(OmegaConf.to_container(raw), "")]
        raise ConfigError("The configuration is not valid:\n" + "\n".join(lines)) from error
    if not isinstance(container, dict):
        raise ConfigError("The configuration is not a mapping.")
    # `experiment` is Hydra's choice of a file, not a setting; what it chose is merged already.
    values: dict[str, Any] = {str(key): value for key, value in container.items() if key not in ("experiment", "hydra")}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("The configuration is not valid:\n" + "\n".join(sentences(error))) from None


def _unset(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _unset(below, f"{key}.{name}" if key else str(name))
    elif value == "???":
        yield key


def sentences(error: ValidationError) -> list[str]:
    """Return one line for each problem: the key, what is wrong, what was given."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"] if not _is_union_branch(part)) or "config"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such setting"
        given = (
            ""
            if isinstance(problem["input"], dict) or "Value error" in problem["msg"]
            else f" (given: {problem['input']!r})"
        )
        if problem["input"] == "???":
            message, given = "is required and was not set", ""
        lines.append(f"  {where}: {message}{given}")
    return lines


def _is_union_branch(part: object) -> bool:
    # pydantic names the tried branch of a union, which says nothing to a user.
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "constrained-float", "constrained-int"))
