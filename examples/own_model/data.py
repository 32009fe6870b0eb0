"""The data: scikit-learn's digits, in two of the forms that trakflow takes.

``config/data/own_digits.yaml`` names the two functions below. Each may return a map-style data set of (input, label)
pairs, a tuple (inputs, labels) of arrays or tensors, or a ``trakflow.data.examples.Examples``, which names the arrays
itself and gives every example an id. The order is the identity of an example: row i of the scores, of ``masks.npy``
and of ``subset_masks.npy`` is item i here, so return the same examples in the same order at every call.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

SPLIT_SEED = 7


class DigitImages(Dataset):
    """A torch map-style data set: a length, and (image, label) by index.

    Args:
        images: Images (n x 8 x 8) with values from 0 to 16.
        labels: Their digits.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images = torch.from_numpy(images).float().unsqueeze(1) / 16
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.labels[index])


def train(size: int) -> DigitImages:
    """Return the first `size` training images, as a map-style data set."""
    digits = load_digits()
    chosen = _shuffled(len(digits.target))[:size]
    return DigitImages(digits.images[chosen], digits.target[chosen])


def targets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last `size` images, which are trained on nowhere, as a tuple of arrays."""
    digits = load_digits()
    chosen = _shuffled(len(digits.target))[-size:]
    return digits.images[chosen, np.newaxis] / 16, digits.target[chosen]


def _shuffled(count: int) -> np.ndarray:
    return np.random.default_rng(SPLIT_SEED).permutation(count)
