"""What a stage writes of itself into its files. No torch."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trakflow import __version__
from trakflow.config.schema import Config
from trakflow.config.stages import VERSIONS, method_settings, stage_settings
from trakflow.store.files import fingerprint


def provenance(config: Config, stage: str, **facts: Any) -> dict[str, Any]:
    """Return what a stage writes of itself into its file."""
    return {"stage": stage, "version": VERSIONS[stage], "settings": fingerprint(stage_settings(config, stage)), **facts}


def method_provenance(config: Config, method: str, **facts: Any) -> dict[str, Any]:
    """Return what the stages of a method write of themselves into their files."""
    return {"method": method, "settings": fingerprint(method_settings(config, method)), **facts}


def gradients_fingerprint(config: Config) -> str:
    """Return a hash of what defines features: equal for training examples and targets that belong together."""
    settings = stage_settings(config, "featurize")
    return fingerprint({key: value for key, value in settings.items() if key != "version"})


# What changes nothing of scores.
NOT_OF_SCORES = ("job", "runtime", "figures", "evaluation", "paper")


def run_facts(config: Config, *left_out: str) -> dict[str, Any]:
    """Return the configuration but for some sections, the code and the versions that a result was made by."""
    return {
        "config": config.model_dump(mode="json", exclude=set(left_out)),
        "git_sha": _git_sha(),
        "versions": _versions(),
        "stages": VERSIONS,
        "seed": config.seed,
    }


def _git_sha() -> str | None:
    """Return the commit of this checkout of trakflow, with `-dirty` if it was changed; None where it is no checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _versions() -> dict[str, str]:
    # trakflow's own is the checkout's: with --sdm it is not installed where jobs run.
    installed = {name: version(name) for name in ("torch", "numpy", "hydra-core")}
    return {"python": platform.python_version(), "trakflow": __version__, **installed}
