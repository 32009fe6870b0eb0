"""Random images with random tokens, and a small model of them, in float64."""

import torch

from trakflow.data.examples import Examples
from trakflow.models.image_text import ImageText

PIXELS, VOCABULARY, LENGTH = 9, 11, 5


def pairs(count, seed, dtype=torch.float64):
    """Images (count x 1 x 3 x 3) and tokens (count x 5), the last ones padding."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCABULARY, (count, LENGTH), generator=random)
    tokens[torch.arange(LENGTH).expand(count, -1) >= 2 + torch.arange(count)[:, None] % 4] = 0
    return {"inputs": torch.rand(count, 1, 3, 3, dtype=dtype, generator=random), "tokens": tokens}


def tiny_model(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return ImageText(PIXELS, VOCABULARY, embedding=6, image_widths=[8], text_widths=[7], word=5).to(dtype).eval()


def train(size):
    """A data set's callable."""
    return _examples(size, 1)


def targets(size):
    """Another."""
    return _examples(size, 2)


def _examples(size, seed):
    found = {name: value.numpy() for name, value in pairs(size, seed, torch.float32).items()}
    return Examples(found, texts=[" ".join(map(str, row)) for row in found["tokens"]])


# That make an experiment of them.
OVERRIDES = (
    "data=own",
    "data.train._target_=pairs.train",
    "+data.train.size=60",
    "data.train_size=60",
    "data.targets._target_=pairs.targets",
    "+data.targets.size=7",
    "data.target_count=7",
    f"model.inputs={PIXELS}",
    f"model.vocabulary={VOCABULARY}",
)
