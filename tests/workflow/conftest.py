"""A finished small experiment to vary."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with its times, to change at will."""
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy"
