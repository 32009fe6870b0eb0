"""The training: a plain torch loop that knows nothing of trakflow.

Writes three checkpoints, each trained on a random half of the data, in forms that trakflow reads: ``torch.save`` of a
state dict, the same inside a training loop's own dictionary, and safetensors. ``masks.npy`` (3 x n, True where a
checkpoint was trained on an example) is optional, and worth keeping: by it the ridge is chosen by the self-LDS.

    python train.py
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

from data import DigitImages, train
from model import SmallCNN

TRAIN_SIZE = 600
CHECKPOINTS = 3
EPOCHS = 10


def fit(dataset: DigitImages, mask: np.ndarray, seed: int) -> SmallCNN:
    """Train a model on the examples where `mask` is True."""
    torch.set_num_threads(1)  # the model is too small to gain from more
    torch.manual_seed(seed)
    model = SmallCNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    loader = DataLoader(Subset(dataset, np.flatnonzero(mask).tolist()), batch_size=32, shuffle=True)
    for _ in range(EPOCHS):
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def random_halves(count: int, size: int, seed: int) -> np.ndarray:
    """Return `count` masks (count x size), each True for a random half."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, size), dtype=bool)
    for mask in masks:
        mask[random.permutation(size)[: size // 2]] = True
    return masks


def main() -> None:
    """Train the checkpoints and save them with their masks."""
    dataset = train(TRAIN_SIZE)
    masks = random_halves(CHECKPOINTS, TRAIN_SIZE, seed=1)
    states = [fit(dataset, mask, seed).state_dict() for seed, mask in enumerate(masks)]
    folder = Path("checkpoints")
    folder.mkdir(exist_ok=True)
    torch.save(states[0], folder / "0.pt")
    torch.save({"epoch": EPOCHS, "state_dict": states[1]}, folder / "1.pt")
    save_file(states[2], folder / "2.safetensors")
    np.save("masks.npy", masks)


if __name__ == "__main__":
    main()
