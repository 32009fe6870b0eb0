"""The files that a user brings, looked for before any job runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trakflow.config.schema import Config
from trakflow.errors import ConfigError


def check_user_files(config: Config) -> None:
    """Refuse a configuration that names files which are not there.

    Copies that were imported earlier do not stand in for them: they may be copies of other files.

    Args:
        config: The experiment.

    Raises:
        ConfigError: Names every missing file with the setting that names it, or every array of another shape than the
            configuration says.
    """
    named: list[tuple[str, str | None]] = [
        (f"checkpoints.files[{number}]", file) for number, file in enumerate(config.checkpoints.files or [])
    ]
    if config.checkpoints.masks is not None:
        named.append(("checkpoints.masks", config.checkpoints.masks))
    if config.evaluation.source == "files":
        named += [("evaluation.masks", config.evaluation.masks), ("evaluation.outputs", config.evaluation.outputs)]
    named += [("data.files", file) for file in config.data.files]
    named += [(f"method.{name}.files", file) for name, method in config.method.items() for file in method.files]
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
    wrong = [
        f"  {setting}: {file} has shape {found}, and this experiment needs {', or '.join(map(str, shapes))}"
        for setting, file, shapes in _arrays(config)
        if (found := _shape(file)) is not None and found not in shapes
    ]
    if wrong:
        raise ConfigError("These arrays do not fit the experiment:\n" + "\n".join(wrong))


def _arrays(config: Config) -> Iterator[tuple[str, str, list[tuple[int, ...]]]]:
    """Yield the setting, the file and the possible shapes of each array that the user brings."""
    n, m = config.data.train_size, config.data.target_count
    if config.checkpoints.masks is not None:
        yield "checkpoints.masks", config.checkpoints.masks, [(config.checkpoints.total, n)]
    settings = config.evaluation
    if settings.source == "files" and (found := _shape(str(settings.masks))) is not None:
        subsets = found[0] if found else 0
        yield "evaluation.masks", str(settings.masks), [(subsets, n)]
        outputs = _shape(str(settings.outputs)) or ()
        repeated = [(outputs[0], subsets, m)] if len(outputs) == 3 else []
        yield "evaluation.outputs", str(settings.outputs), [(subsets, m), *repeated]


def _shape(path: str) -> tuple[int, ...] | None:
    """The shape that a .npy file says it has; None where it is none, which is an error of the job that reads it."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return None
