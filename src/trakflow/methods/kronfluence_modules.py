"""Which modules of a model kronfluence covers, and how much memory its factors of them take."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trakflow.errors import ConfigError
from trakflow.methods.base import Trained
from trakflow.methods.gradients import one_example
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.tasks.running import floating_type, run_model

# Scores by less than half of a model would be those of another method.
LEAST_COVERED = 0.5


@dataclass(frozen=True)
class Covered:
    """Modules whose parameters kronfluence attributes by.

    Attributes:
        names: Of the modules.
        entries: Of their parameters.
        shared: Whether one of them is called more than once for a batch.
        factor_bytes: Of covariances and eigenvectors of inputs and output gradients, and of one eigendecomposition.
    """

    names: list[str]
    entries: int
    shared: bool
    factor_bytes: int


def covered_modules(trained: Trained) -> Covered:
    """Find the linear and convolutional modules that a forward pass calls, and whose weights were trained.

    Left out are convolutions with groups or with padding other than zeros, whose gradients kronfluence takes for those
    of other convolutions, and modules that share a parameter with another.

    Raises:
        ConfigError: They hold less than half of the trained parameters.
    """
    model = trained.model
    calls = _calls(trained)
    owners = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    found = {name: module for name, module in model.named_modules() if calls[name] and _is_covered(module, owners)}
    entries = sum(own.numel() for module in found.values() for own in module.parameters())
    total = sum(value.numel() for value in differentiated_parameters(model).values())
    if entries < LEAST_COVERED * total:
        raise ConfigError(
            f"kronfluence covers nn.Linear and nn.Conv2d, which hold {entries} of {total} trained parameters of this "
            f"model ({type(model).__name__}); choose the method influence_function or influence_arnoldi."
        )
    sides = [side for module in found.values() for side in _sides(module)]
    factors = 4 * 2 * sum(side**2 for side in sides) + 8 * 3 * max(sides) ** 2
    return Covered(list(found), entries, any(calls[name] > 1 for name in found), factors)


def _is_covered(module: nn.Module, owners: Counter[int]) -> bool:
    # By type and not by subclass: that is what kronfluence looks its own modules up by.
    if type(module) not in (nn.Linear, nn.Conv2d) or any(owners[id(own)] > 1 for own in module.parameters()):
        return False
    if isinstance(module, nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"):
        return False
    return all(own.requires_grad for own in module.parameters())


def _sides(module: nn.Module) -> tuple[int, int]:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    return weight[0].numel() + (bias is not None), len(weight)


def _calls(trained: Trained) -> Counter[str]:
    """How often a forward pass of one example calls each module."""
    calls: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, module in trained.model.named_modules()
    ]
    try:
        with torch.no_grad():
            run_model(trained.task, trained.model, one_example(trained), floating_type(trained.model))
    finally:
        for handle in handles:
            handle.remove()
    return calls
