"""nn.Conv1d, nn.Conv2d and nn.Conv3d, with any stride, padding, dilation and groups."""

from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import SketchError
from trakflow.sketches.contributions import Contribution, Elementwise, Kept, Patches, Window, summed
from trakflow.sketches.rules.base import Call, Rule


class ConvolutionRule(Rule):
    """The gradient of the filters is the sum over positions of grad(y) x the patch under the filter."""

    def contributions(self, call: Call, inputs: Tensor) -> list[Contribution]:
        """Weight and bias."""
        module = call.module
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        dimensions = len(module.kernel_size)
        if inputs.ndim != dimensions + 2:
            raise SketchError(
                f"{call.path} ({type(module).__name__}) was given an input without a batch dimension, which the rule "
                "for convolutions does not cover; add it, or use sketch=sjlt."
            )
        found: list[Contribution] = []
        if "weight" in call.names:
            padded, padding = _pad(module, inputs)
            window = Window(module.kernel_size, module.stride, padding, module.dilation, module.groups)
            found.append(Patches(call.names["weight"], Kept(padded, call.path), call.batch, window))
        if "bias" in call.names:
            batch = call.batch
            channels = -1 - dimensions
            found.append(Elementwise(call.names["bias"], lambda gradient: summed(gradient, batch, [channels])))
        return found


def _pad(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return inputs and the padding by zeros that is left; other paddings (by name, circular, ...) are done here."""
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return inputs, module.padding
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
    return padded, (0,) * len(module.kernel_size)
