"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels in ten classes, shipped with the package."""

import numpy as np

from trakflow.data.examples import Examples
from trakflow.errors import DataError

TRAIN_SIZE = 1437


def _part(indices: np.ndarray) -> Examples:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[indices, None] / 16).astype(np.float32)
    return Examples(
        {"inputs": images, "labels": bunch.target[indices].astype(np.int64)}, [f"digit-{index}" for index in indices]
    )


def _split() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    labels = load_digits().target
    # One fixed split whatever the experiment's seed: seeds vary models and projections, not the question asked.
    train, rest = train_test_split(np.arange(len(labels)), train_size=TRAIN_SIZE, stratify=labels, random_state=0)
    return train, rest


def train(size: int = TRAIN_SIZE) -> Examples:
    """Return the first `size` training images.

    Returns:
        inputs (size x 1 x 8 x 8, float32 in [0, 1]) and labels.

    Raises:
        DataError: More are asked for than there are.
    """
    return _part(_first(_split()[0], size, "data.train_size"))


def targets(size: int = 300) -> Examples:
    """Return the first `size` of the 360 held-out images; shapes as `train`.

    Raises:
        DataError: More are asked for than there are.
    """
    return _part(_first(_split()[1], size, "data.target_count"))


def _first(indices: np.ndarray, size: int, setting: str) -> np.ndarray:
    if size > len(indices):
        raise DataError(f"{setting}={size}, but digits has {len(indices)} such images.")
    return indices[:size]
