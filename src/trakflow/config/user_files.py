"""The files that a user brings, looked for before any job runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from trakflow.config.schema import Config
from trakflow.errors import ConfigError

EXTERNAL = "trakflow.methods.external.External"


def check_features_from(config: Config, root: str) -> None:
    """Refuse to take features from the folder that they would be written to.

    Args:
        config: The experiment.
        root: Its results folder.

    Raises:
        ConfigError: The two are one.
    """
    if config.features_from is not None and Path(config.features_from).resolve() == Path(root).resolve():
        raise ConfigError(
            f"features_from={config.features_from} is this experiment's own folder; name that of another experiment or "
            "of a TRAKer, or leave it out: features that are there already are not made again."
        )


def check_user_files(config: Config) -> None:
    """Refuse a configuration that names files which are not there.

    Copies that were imported earlier do not stand in for them: they may be copies of other files.

    Args:
        config: The experiment.

    Raises:
        ConfigError: Names every missing file with the setting that names it, or every array that cannot be read, has
            another shape than the configuration says, or has too few subsets.
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
    if wrong := [f"  {problem}" for problem in _problems(config)]:
        raise ConfigError("These arrays do not fit the experiment:\n" + "\n".join(wrong))


def _problems(config: Config) -> Iterator[str]:
    """Say of each array that the user brings, and that cannot be taken, why."""
    n, m = config.data.train_size, config.data.target_count
    if config.checkpoints.masks is not None:
        yield from _misfit("checkpoints.masks", config.checkpoints.masks, [(config.checkpoints.total, n)])
    for name, method in config.method.items():
        if method.make["_target_"] == EXTERNAL:
            yield from _misfit(f"method.{name}.make.path", str(method.make["path"]), [(n, m)])
    if config.evaluation.source == "files":
        yield from _problems_of_evaluation(str(config.evaluation.masks), str(config.evaluation.outputs), n, m)


def _problems_of_evaluation(masks: str, outputs: str, n: int, m: int) -> Iterator[str]:
    found = _shape(masks)
    subsets = found[0] if isinstance(found, tuple) and found else 0
    yield from _misfit("evaluation.masks", masks, [(subsets, n)])
    if isinstance(found, tuple) and subsets < 3:
        yield (
            f"evaluation.masks: {masks} holds {subsets} subsets, a row each, and a rank correlation needs at least 3; "
            "bring more, or set evaluation=none with both paths null"
        )
    if isinstance(found, str):
        return
    given = _shape(outputs)
    repeated = [(given[0], subsets, m)] if isinstance(given, tuple) and len(given) == 3 else []
    yield from _misfit("evaluation.outputs", outputs, [(subsets, m), *repeated])


def _misfit(setting: str, file: str, shapes: list[tuple[int, ...]]) -> Iterator[str]:
    found = _shape(file)
    if isinstance(found, str):
        yield f"{setting}: {file} is no .npy array of numbers ({found}); write it by numpy.save"
    elif found not in shapes:
        yield f"{setting}: {file} has shape {found}, and this experiment needs {', or '.join(map(str, shapes))}"


def _shape(path: str) -> tuple[int, ...] | str:
    """The shape that a .npy file says it has, or why it has none; no pickle in it is run."""
    try:
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                return "it does not begin as one"
        with np.errstate(over="ignore"):  # of a size that is wrong, which is an error below
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # numpy's parser of headers has no error of its own: whatever it stumbles over comes out.
        return " ".join(str(error).split())[:200]
    return array.shape if array.dtype.kind in "biuf" else f"it holds {array.dtype}"
