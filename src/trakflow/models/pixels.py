"""Images as bytes, normalised where the model begins, so that they take a quarter of the memory until then."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from trakflow.errors import ConfigError


class NormalisedPixels(nn.Module):
    """Makes bytes (x / 255 - mean) / deviation by channel; floats are normalised already and pass as they are.

    It has nothing to train and adds nothing to a model's state dict.

    Args:
        mean: Of each channel, on the scale of 0 to 1.
        deviation: Standard deviation of each channel, likewise.

    Raises:
        ConfigError: They differ in length, or a deviation is not positive.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        if len(mean) != len(deviation) or not all(value > 0 for value in deviation):
            raise ConfigError(
                f"mean={list(mean)} and deviation={list(deviation)} must hold a number for each channel, and the "
                "deviations must be positive."
            )
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(list(values)).view(-1, 1, 1), persistent=False)

    mean: Tensor
    deviation: Tensor

    def forward(
        self, inputs: Num[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return what the model's first layer takes, in the dtype of the model."""
        if inputs.dtype != torch.uint8:
            return inputs
        return (inputs.to(self.mean.dtype) / 255 - self.mean) / self.deviation
