"""Models inside wrappers: compiled, spread over processes or devices. Features are taken of the model within.

A sketch reads each layer's inputs and gradients by example, which a compiled graph does not show, and it runs in one
process on one device, where the wrappers of parallel training have nothing to do.
"""

import copy
from typing import Any

from torch import nn

from trakflow.errors import ConfigError

# By their names: the classes' modules take a second to import, and a model of one of them has imported its own.
WRAPPERS = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
}


def unwrap(model: Any) -> nn.Module:
    """Return the model without `torch.compile`, `DistributedDataParallel` and `DataParallel`, around it or inside it.

    Parameters and buffers are the same tensors under the names that they have without wrappers. The model given is not
    changed: where only a part of it is wrapped, the modules around that part are copied, without their tensors.

    Args:
        model: The model.

    Returns:
        The model itself where nothing is wrapped.

    Raises:
        ConfigError: It is no module, or its parameters are sharded over processes (FSDP).
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"The model is {type(model).__name__}; it must be a torch.nn.Module.")
    _require_whole(model)
    return _plain(model, {})


def _plain(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """`made` holds what became of each module, so that one that is used twice stays one."""
    if id(module) not in made:
        inner = _taken_off(module)
        children = {name: None if child is None else _plain(child, made) for name, child in inner._modules.items()}
        # By `model.compile()`, which leaves the class as it is.
        compiled = inner._compiled_call_impl is not None
        if compiled or any(child is not inner._modules[name] for name, child in children.items()):
            # A copy shares tensors, and is not compiled.
            inner = copy.copy(inner)
            inner.__dict__["_modules"] = children
        made[id(module)] = inner
    return made[id(module)]


def _taken_off(module: nn.Module) -> nn.Module:
    while (attribute := WRAPPERS.get((type(module).__module__, type(module).__name__))) is not None:
        module = getattr(module, attribute)
    return module


def _require_whole(model: nn.Module) -> None:
    for module in model.modules():
        if type(module).__module__.startswith("torch.distributed.fsdp"):
            raise ConfigError(
                "The model's parameters are sharded over processes (FSDP), and gradients by example need them whole. "
                "Gather them into a plain model (torch.distributed.checkpoint.state_dict.get_model_state_dict with "
                "full_state_dict=True) and give that one."
            )
