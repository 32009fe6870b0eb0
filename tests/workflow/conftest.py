"""One small finished experiment, made once and copied by the tests that vary it."""

import shutil
from pathlib import Path

import pytest
from run_snakemake import TINY, overrides, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of the small experiment; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    snakemake(folder, overrides(TINY), ["--cores", "2", "--report", "results/digits/report.html", "--report-after-run"])
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with its times, to change at will."""
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy"
