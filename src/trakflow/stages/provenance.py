"""What a stage writes of itself into its files. No torch."""

from typing import Any

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
