"""A device made up by this process: its tensors hold their numbers on the CPU, and refuse tensors of another device.

What a GPU refuses, an operation on tensors of two devices, is refused here too, and the arithmetic is the CPU's: so a
tensor that was left behind, or a device that was taken for granted, is found where there is no GPU. It says
nothing of a GPU's own arithmetic. For a process of its own, since torch takes one such device and keeps it.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "elsewhere"
# Of tensors of two devices, as anywhere: the numbers of one into the memory of the other.
COPY = "aten::copy_"


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self):
        return [torch.float16]


class Elsewhere(torch.Tensor):
    """A tensor of that device, around its numbers."""

    @staticmethod
    def __new__(cls, numbers):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=torch.device(NAME, 0),
            requires_grad=numbers.requires_grad,
        )

    def __init__(self, numbers):
        self.numbers = numbers

    def tolist(self):
        return self.numbers.tolist()

    def untyped_storage(self):
        return self.numbers.untyped_storage()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.numbers = value.numbers

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class Device(TorchDispatchMode):
    """The device, there while this is entered."""

    def __init__(self):
        super().__init__()
        _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, Elsewhere)]
    # Numbers without a dimension may come from the CPU, on a GPU too.
    here = [value for value in tensors if not isinstance(value, Elsewhere) and value.ndim]
    name = func._schema.name
    if here and there and name != COPY:
        raise RuntimeError(f"{name}: expected all tensors on one device, but there are some on cpu and on {NAME}")
    args, plain = tree_map_only(Elsewhere, lambda value: value.numbers, (args, kwargs))
    asked = kwargs.get("device")
    if asked is not None:
        plain["device"] = torch.device("cpu")
    found = func(*args, **plain)
    # What was changed in place is what was given, and not another tensor around the same numbers.
    given = {id(value.numbers): value for value in there}
    if any(id(value) in given for value in tree_flatten(found)[0]):
        return tree_map_only(torch.Tensor, lambda value: given.get(id(value), value), found)
    moved = torch.device(asked).type == NAME if asked is not None else bool(there) and name != COPY
    return tree_map_only(torch.Tensor, Elsewhere, found) if moved else found
