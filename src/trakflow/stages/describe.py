"""Stage describe: the resolved configuration as a file, for provenance; nothing that computes reads it."""

from omegaconf import OmegaConf

from trakflow.config.schema import Config
from trakflow.layout import Layout
from trakflow.store.files import atomic_path


def describe(config: Config, layout: Layout) -> None:
    """Write the configuration as YAML."""
    with atomic_path(layout.config) as temporary:
        temporary.write_text(
            OmegaConf.to_yaml(config.model_dump(mode="json", exclude={"job", "runtime"})), encoding="utf8"
        )
