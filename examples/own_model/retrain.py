"""The evaluation's other half: models retrained on random subsets, without trakflow.

The LDS compares what the scores predict with what retraining does. Writes ``subset_masks.npy`` (subsets x n) and
``subset_outputs.npy`` (subsets x m): the output of each retrained model at each target. The output must be the scalar
that the task attributes; for trakflow's ``Classification`` it is log(p / (1 - p)) of the label. A third dimension in
front (retrains x subsets x m) holds repeats with other seeds, and gives the noise ceiling.

Twelve subsets show the files, and say little of the scores: use a hundred for an interval worth reporting.

    python retrain.py
"""

import numpy as np
import torch

from data import targets, train
from train import TRAIN_SIZE, fit, random_halves

TARGET_COUNT = 50
SUBSETS = 12


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of the labels, written so that it stays exact where p rounds to one."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - torch.logsumexp(others, dim=1)


def main() -> None:
    """Retrain on each subset and save the masks with the outputs."""
    dataset = train(TRAIN_SIZE)
    images, labels = (torch.from_numpy(array) for array in targets(TARGET_COUNT))
    masks = random_halves(SUBSETS, TRAIN_SIZE, seed=2)
    outputs = np.empty((SUBSETS, TARGET_COUNT), dtype=np.float32)
    for number, mask in enumerate(masks):
        model = fit(dataset, mask, seed=100 + number)
        with torch.no_grad():
            outputs[number] = log_odds(model(images.float()), labels).numpy()
    np.save("subset_masks.npy", masks)
    np.save("subset_outputs.npy", outputs)


if __name__ == "__main__":
    main()
