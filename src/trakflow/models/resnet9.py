"""The ResNet-9 of the paper's CIFAR-10 experiments (appendix; a design of the DAWNBench entries), of any width."""

from jaxtyping import Float
from torch import Tensor, nn

# The paper's model multiplies its logits by this: without it the first steps of training are too large.
LOGIT_SCALE = 0.2


class ResNet9(nn.Module):
    """Eight convolutions, two of the blocks residual, and a linear layer.

    Normalised by `nn.BatchNorm2d` as published. That can be trained as a stacked ensemble, where each model has its own
    statistics, and in evaluation mode, in which gradients are taken, it is a fixed affine map of each example.

    Args:
        outputs: Number of classes.
        width: Channels of the first convolution; 64 in the paper (2.3 million parameters), 8 gives 37 thousand.
        channels: Channels of an image; its sides must have at least 12 pixels.
    """

    def __init__(self, outputs: int, width: int = 64, channels: int = 3):
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(channels, width),
            _convolution(width, 2 * width, kernel=5, stride=2, padding=2),
            Residual(_convolution(2 * width, 2 * width), _convolution(2 * width, 2 * width)),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            Residual(_convolution(4 * width, 4 * width), _convolution(4 * width, 4 * width)),
            _convolution(4 * width, 2 * width, padding=0),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, outputs, bias=False),
        )

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        return LOGIT_SCALE * self.layers(inputs)


class Residual(nn.Module):
    """Adds what some layers make of their inputs to them."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Return inputs plus the layers' outputs, which have the same shape."""
        return inputs + self.layers(inputs)


def _convolution(incoming: int, outgoing: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride, padding, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU()
    )
