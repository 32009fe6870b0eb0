"""The files that a user brings, looked for before any job runs."""

from pathlib import Path

from trakflow.config.schema import Config
from trakflow.errors import ConfigError


def check_user_files(config: Config) -> None:
    """Refuse a configuration that names files which are not there.

    Copies that were imported earlier do not stand in for them: they may be copies of other files.

    Args:
        config: The experiment.

    Raises:
        ConfigError: Names every missing file with the setting that names it.
    """
    named: list[tuple[str, str | None]] = [
        (f"checkpoints.files[{number}]", file) for number, file in enumerate(config.checkpoints.files or [])
    ]
    if config.checkpoints.masks is not None:
        named.append(("checkpoints.masks", config.checkpoints.masks))
    if config.evaluation.source == "files":
        named += [("evaluation.masks", config.evaluation.masks), ("evaluation.outputs", config.evaluation.outputs)]
    missing = [f"  {setting}: {file}" for setting, file in named if file is not None and not Path(file).is_file()]
    if config.features_from is not None:
        folder = Path(config.features_from) / "features"
        missing += [
            f"  features_from: {folder / str(number)} (with .safetensors files, by finalize_features)"
            for number in range(config.checkpoints.total)
            if not any((folder / str(number)).glob("[0-9]*.safetensors"))
        ]
    if missing:
        raise ConfigError(
            f"These files do not exist (looked from {Path.cwd()}); correct the paths, or run Snakemake in the folder "
            "that they are relative to:\n" + "\n".join(missing)
        )
