"""ResNet-18 (He et al. 2016, table 1), as the paper's ImageNet experiments have it."""

from collections.abc import Sequence

from jaxtyping import Float, Num
from torch import Tensor, nn

from trakflow.models.pixels import NormalisedPixels

# Of the training images, on the scale of 0 to 1: what published checkpoints were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Module):
    """Four stages of two blocks. Parameters have the names of torchvision's `resnet18`, so that its checkpoints load.

    It takes images as bytes, which it normalises, or as floats that are normalised already. Train it with
    `training.ensemble: false`: there is no time to be saved by stacking models of this size.

    Args:
        outputs: Number of classes.
        mean: Of each channel's pixels, on the scale of 0 to 1.
        deviation: Their standard deviation.
    """

    def __init__(
        self,
        outputs: int = 1000,
        mean: Sequence[float] = IMAGENET_MEAN,
        deviation: Sequence[float] = IMAGENET_DEVIATION,
    ):
        super().__init__()
        self.pixels = NormalisedPixels(mean, deviation)
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], stride=2)
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[3], outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Num[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        found = self.maxpool(self.relu(self.bn1(self.conv1(self.pixels(inputs)))))
        found = self.layer4(self.layer3(self.layer2(self.layer1(found))))
        return self.fc(self.avgpool(found).flatten(1))


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut, which is a convolution of 1 x 1 where the shape changes."""

    def __init__(self, incoming: int, outgoing: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outgoing)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outgoing)
        self.downsample = _shortcut(incoming, outgoing, stride)

    def forward(
        self, inputs: Float[Tensor, "batch incoming height width"]
    ) -> Float[Tensor, "batch outgoing less lower"]:
        """Return the block's outputs, with sides divided by the stride."""
        shortcut = inputs if self.downsample is None else self.downsample(inputs)
        return self.relu(shortcut + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs))))))


def _shortcut(incoming: int, outgoing: int, stride: int) -> nn.Module | None:
    if stride == 1 and incoming == outgoing:
        return None
    return nn.Sequential(nn.Conv2d(incoming, outgoing, 1, stride, bias=False), nn.BatchNorm2d(outgoing))


def _stage(incoming: int, outgoing: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(incoming, outgoing, stride), BasicBlock(outgoing, outgoing, 1))
