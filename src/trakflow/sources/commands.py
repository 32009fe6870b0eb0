"""Running a package manager."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command in a folder, silently.

    Raises:
        OSError: The program is not there, or fails; says what it wrote last.
    """
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]} is not on this system")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).split())[-300:]
        raise OSError(f"{' '.join(command)} failed: {last}")
