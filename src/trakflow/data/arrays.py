"""Plain arrays that a user brings."""

from pathlib import Path

import numpy as np

from trakflow.errors import DataError, StoreError
from trakflow.store.numpy_files import map_numpy


def read_array(path: str, setting: str) -> np.ndarray:
    """Read a `.npy` file of the user's without running pickles, and without believing what it says of its size.

    Raises:
        DataError: It is missing or not a plain array of numbers.
    """
    if not Path(path).is_file():
        raise DataError(f"{setting}: {path} does not exist (looked from {Path.cwd()}).")
    try:
        return np.array(map_numpy(path))
    except StoreError as error:
        reason = error.__cause__ or error
        raise DataError(f"{setting}: {path} is not a plain .npy array of numbers ({reason}).") from error
