"""The model: a small convolutional network, written without a thought of trakflow."""

import torch
from torch import nn


class SmallCNN(nn.Module):
    """Two convolutions and a linear layer, for images of 8 x 8 pixels.

    Any ``torch.nn.Module`` will do. trakflow makes it by the arguments in ``config/model/small_cnn.yaml``, loads a
    checkpoint into it, and differentiates by the parameters that have ``requires_grad``.

    Args:
        channels: Width of the first convolution; the second is twice as wide.
        classes: Number of logits.
    """

    def __init__(self, channels: int = 8, classes: int = 10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(2 * channels * 2 * 2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (batch x classes) of images (batch x 1 x 8 x 8)."""
        return self.head(self.features(images).flatten(start_dim=1))
