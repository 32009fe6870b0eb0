"""Turns a stage function into a Hydra-configured script that says in one sentence what went wrong."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from trakflow.allocator import keep_freed_memory
from trakflow.config.compose import CONFIG_ROOT, add_import_paths, checked
from trakflow.config.schema import Config
from trakflow.errors import ConfigError, TrakflowError
from trakflow.layout import Layout
from trakflow.stages.timing import timed

Stage = Callable[[Config, Layout], None]

log = logging.getLogger("trakflow")


def run(stage: Stage, repeatable: bool = False, before: Stage | None = None) -> None:
    """Compose the configuration from the command line by Hydra and call a stage.

    An error that the user can mend ends in exit code 1 and a sentence.

    Args:
        stage: Takes the configuration and the layout; `config.job` says which piece of work it does.
        repeatable: Whether `runtime.repeats` applies: stage compute counts the seconds in its log, for the sake of
            which it is done that often.
        before: What is done once before it, and is no part of these seconds.
    """

    @hydra.main(version_base="1.3", config_path=str(CONFIG_ROOT), config_name="config")
    def main(raw: DictConfig) -> None:
        _log_to(OmegaConf.select(raw, "job.log"))
        try:
            config = checked(raw)
            job = config.job
            if job.results is None:
                raise ConfigError(
                    "job.results is not set; give the results folder, for example job.results=results/digits."
                )
            _limit_threads(config.runtime.threads)
            keep_freed_memory()
            layout = Layout(job.results, job.variant_of, job.own_from)
            if before is not None:
                before(config, layout)
            for _ in range(config.runtime.repeats if repeatable else 1):
                with timed():
                    stage(config, layout)
        except TrakflowError as error:
            log.error("%s", error)
            sys.exit(1)
        except Exception:
            log.error(
                "This failed in a way that trakflow did not foresee. If the last lines below are in your own code, "
                "look there; if not, please report it.\n%s",
                traceback.format_exc(),
            )
            sys.exit(1)

    _make_importable(sys.argv[1:])
    main()


def _log_to(path: str | None) -> None:
    """Write messages to the log file as well as to stderr; the file never sees a progress bar."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf8"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    handlers[0].setLevel(logging.WARNING)


def _limit_threads(threads: int) -> None:
    # Read by torch where a stage, or the user's own module, imports it later; most stages have done so by now.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def _make_importable(arguments: list[str]) -> None:
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "hydra.searchpath":
            add_import_paths([folder.strip(" '\"").removeprefix("file://") for folder in value.strip("[]").split(",")])


def require(value: int | None, name: str) -> int:
    """Return a job argument that the stage cannot do without.

    Raises:
        ConfigError: It was not given.
    """
    if value is None:
        raise ConfigError(f"{name} is not set; this script needs it, for example {name}=0.")
    return value
