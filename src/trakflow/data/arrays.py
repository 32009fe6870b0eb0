"""Plain arrays that a user brings."""

from pathlib import Path

import numpy as np

from trakflow.errors import DataError


def read_array(path: str, setting: str) -> np.ndarray:
    """Read a `.npy` file of the user's without running pickles.

    Raises:
        DataError: It is missing or not a plain array.
    """
    if not Path(path).is_file():
        raise DataError(f"{setting}: {path} does not exist (looked from {Path.cwd()}).")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{setting}: {path} is not a plain .npy array ({error}).") from error
