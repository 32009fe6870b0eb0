"""A results folder of the workflow as a save_dir."""

from collections.abc import Mapping
from typing import Any

from trakflow.errors import ConfigError
from trakflow.store.yaml_file import read_yaml, unreadable
from trakflow.traker.folder import SaveDir, unequal

# What a TRAKer calls the settings of the workflow.
ARGUMENTS = {
    "name": "projector",
    "k": "proj_dim",
    "dtype": "use_half_precision",
    "seed": "projector_seed",
    "parameters": "grad_wrt",
    "train_set_size": "train_set_size",
    "task": "task",
}


# What is compared, and must be mappings.
SECTIONS = ("sketch", "data", "task")


def _read_config(path: str) -> dict[str, Any]:
    config = read_yaml(path)
    if (
        not isinstance(config, dict)
        or not {"seed", *SECTIONS} <= config.keys()
        or not all(isinstance(config[name], dict) for name in SECTIONS)
        or not {"k", "name"} <= config["sketch"].keys()
        or "train_size" not in config["data"]
        or "_target_" not in config["task"]
    ):
        raise unreadable(path, "it is no configuration of trakflow")
    return {str(key): value for key, value in config.items()}


def check_workflow(save_dir: SaveDir, facts: Mapping[str, Any]) -> None:
    """Refuse a TRAKer whose features would not be those of the workflow.

    Args:
        save_dir: Of the workflow.
        facts: What features of the TRAKer depend on.

    Raises:
        ConfigError: Names each setting that differs, with both values.
        StoreError: The workflow's configuration cannot be read.
    """
    config = _read_config(save_dir.layout.config)
    theirs = {
        **config["sketch"],
        "seed": config["seed"],
        "train_set_size": config["data"]["train_size"],
        "task": config["task"].pop("_target_"),
        # Arguments that its task was not given have its defaults.
        "task_settings": {**facts["task_settings"], **config["task"]},
    }
    if theirs["k"] is None:
        # It follows from the model then.
        theirs["k"] = facts["k"]
    differing = [
        f"{ARGUMENTS.get(name, name)}: {here!r} here, {there!r} in the workflow"
        for name, here, there in unequal(facts, theirs)
    ]
    if differing:
        raise ConfigError(
            f"{save_dir.root} holds features of the workflow that were made with other settings "
            f"({'; '.join(differing)}). Give the same, or another save_dir."
        )
