"""Reading and writing model weights without ever running a pickle."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from trakflow.errors import CheckpointError
from trakflow.models.adapters import adapters_meant, are_adapters, load_adapters
from trakflow.store.files import atomic_path

# Where common training loops put the state dict inside the file.
WRAPPERS = ("state_dict", "model_state_dict", "model")
# What torch.compile and parallel wrappers put before the names of parameters.
COMPILED, PARALLEL = re.compile(r"(?<![^.])_orig_mod\."), "module."


def write_weights(path: Path | str, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors, whole or not at all.

    Raises:
        StoreError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        save_file(_plain(state), temporary)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of the file that `write_weights` would write."""
    return hashlib.sha256(save(_plain(state))).hexdigest()


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Tied tensors share memory, which the format refuses; a copy each reads back the same.
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a `.pt`/`.pth` state dict with `weights_only=True`.

    Raises:
        CheckpointError: The file is missing, truncated, of another kind, or holds anything but tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"Checkpoint {path} is a folder; give the file in it that holds the weights, for example "
            "model.safetensors or, of PEFT, adapter_model.safetensors."
        )
    if not path.is_file():
        raise CheckpointError(
            f"Checkpoint {path} does not exist (looked from {Path.cwd()}); correct checkpoints.files."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_compressed(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"Checkpoint {path} is damaged or holds more than tensors, and trakflow never runs the code in a pickle. "
            "Save `model.state_dict()` alone, by torch.save or as .safetensors."
        ) from error
    except Exception as error:
        # torch.load has no error of its own for a damaged file: whatever its parser stumbles over comes out.
        raise CheckpointError(
            f"Checkpoint {path} cannot be read: it is truncated or not a checkpoint "
            f"({' '.join(str(error).split())[:200]}). Copy or save it again."
        ) from error
    return _unwrap(value, path)


def _refuse_compressed(path: Path) -> None:
    # torch writes none; a few megabytes of it could be unpacked to more than the machine has.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.file_size > entry.compress_size for entry in archive.infolist()):
                raise ValueError("it is compressed, as torch.save never does")


def _unwrap(value: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(value, Mapping):
        for name in WRAPPERS:
            if isinstance(value.get(name), Mapping):
                value = value[name]
                break
        if value and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()):
            if nested := [name for name, item in value.items() if item.is_nested]:
                raise CheckpointError(f"Checkpoint {path} holds '{nested[0]}' as a nested tensor; save a plain one.")
            return dict(value)
    raise CheckpointError(
        f"Checkpoint {path} holds no state dict: expected a mapping of names to tensors, or one under "
        f"{', '.join(WRAPPERS)}."
    )


def load_weights(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict into a model, in place.

    What wrappers add to names is taken off (`module.` of DataParallel and DistributedDataParallel, `_orig_mod.` of
    torch.compile). A state dict that holds only the adapters of a PEFT model is loaded into those of the model.

    Args:
        model: Without wrappers (`trakflow.models.wrapped.unwrap`).
        state: The state dict.
        origin: What it is called in messages.

    Raises:
        CheckpointError: Names or shapes differ from the model's, or values are not finite.
    """
    expected = model.state_dict()
    state = _without_wrappers(state, expected.keys())
    adapters = adapters_meant(model, state)
    _require_same(state, expected if adapters is None else adapters, origin)
    for name, value in state.items():
        _require_plain(name, value, (expected if adapters is None else adapters)[name], origin)
    if adapters is None:
        model.load_state_dict(state)
    else:
        load_adapters(model, state)


def _require_plain(name: str, value: Tensor, expected: Tensor, origin: str) -> None:
    """Refuse values that would be lost, or mean something else, when they are copied into the model."""
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        raise CheckpointError(
            f"{origin} holds '{name}' as a sparse, quantized or empty (meta) tensor; save a plain one, for "
            "example by to_dense() or dequantize()."
        )
    kinds = [tensor.is_floating_point() + 2 * tensor.is_complex() for tensor in (value, expected)]
    if kinds[0] != kinds[1]:
        raise CheckpointError(
            f"{origin} holds '{name}' as {value.dtype}, the model as {expected.dtype}; save it in the model's type."
        )
    # Of the smallest types not all have a test for it.
    wide = value.float() if value.is_floating_point() and value.element_size() == 1 else value
    if kinds[0] and not torch.isfinite(wide).all():
        raise CheckpointError(
            f"{origin} holds NaN or Inf in '{name}'; choose a checkpoint from before training diverged."
        )


def _without_wrappers(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    # No module of a user's has this name: torch keeps it for compiled ones, which may be parts of the model.
    state = {COMPILED.sub("", name): value for name, value in state.items()}
    # But one of a user's may be called `module`.
    while state and not state.keys() <= set(expected) and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return state


def _require_same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    problems = [f"'{name}' is missing" for name in expected.keys() - state.keys()]
    problems += [f"'{name}' is not in the model" for name in state.keys() - expected.keys()]
    problems += [
        f"'{name}' has shape {tuple(state[name].shape)}, the model {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if not problems:
        return
    shown = "; ".join(sorted(problems)[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
    ways = "Make `model` the one that was trained, or choose another file."
    if are_adapters(state) and not are_adapters(expected):
        ways = "It holds adapters of PEFT; make `model` the PEFT model, by peft.get_peft_model with the same settings."
    raise CheckpointError(f"{origin} is of another architecture than `model`: {shown}. {ways}")
