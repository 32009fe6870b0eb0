"""What a data loader yields, as named tensors with one row an example."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from trakflow.errors import DataError


def named_tensors(batch: Any, fields: Sequence[str] | None) -> dict[str, Tensor]:
    """Bring a batch to named tensors.

    Args:
        batch: A tuple or list in the order of the task's fields, or a mapping by name (a dict, a BatchEncoding), where
            an entry may be None; tensors or anything array-like.
        fields: The task's fields; None for a task that takes any number of them, which are then named by their number.

    Returns:
        Tensors, with labels and other integers as int64.

    Raises:
        DataError: There are more or fewer entries than fields, they differ in length, or one is no array.
    """
    if isinstance(batch, Mapping):
        # Tokenizers and collators leave out what a model does not need by None.
        entries = {str(name): _tensor(value, name) for name, value in batch.items() if value is not None}
    else:
        entries = _positional(batch, fields)
    if not entries:
        raise DataError("The batch is empty; it must hold at least one tensor.")
    lengths = {name: len(value) for name, value in entries.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise DataError(f"A batch must hold the same number of examples, at least one, in every tensor: {lengths}.")
    return entries


def _positional(batch: Any, fields: Sequence[str] | None) -> dict[str, Tensor]:
    values = [batch] if isinstance(batch, Tensor) else list(batch) if isinstance(batch, Iterable) else None
    if not values:
        raise DataError(f"A batch must be a tuple of tensors or a mapping of them, but is {type(batch).__name__}.")
    names = [str(number) for number in range(len(values))] if fields is None else list(fields)
    if len(names) != len(values):
        raise DataError(f"The batch holds {len(values)} tensors, but the task takes {len(names)}: {', '.join(names)}.")
    return {name: _tensor(value, name) for name, value in zip(names, values, strict=True)}


def _tensor(value: Any, name: object) -> Tensor:
    if isinstance(value, Mapping):
        raise DataError(
            f"'{name}' of the batch is a mapping itself ({', '.join(map(str, value))}). Give one mapping of all "
            "tensors by name, for example {**inputs, 'labels': labels}."
        )
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"'{name}' of the batch is {type(value).__name__}, not a tensor ({error}).") from error
    if tensor.ndim == 0:
        raise DataError(f"'{name}' of the batch is a single number; it needs one row an example.")
    # Bytes are images, unless they are labels.
    small = (torch.int32, torch.int16, torch.int8) + ((torch.uint8,) if name == "labels" else ())
    return tensor.long() if tensor.dtype in small else tensor


def row_numbers(
    inds: Any, num_samples: int | None, size: int, cursor: int, total: int, what: str
) -> Int64[np.ndarray, " size"]:
    """Return the number of each example of a batch.

    Args:
        inds: The numbers, or None.
        num_samples: Or how many examples there are, which then follow those before.
        size: How many examples the batch holds.
        cursor: Where the examples before ended.
        total: How many there are in all.
        what: What they are called in messages.

    Raises:
        DataError: Both or none are given, they disagree with the batch, or a number repeats or does not exist.
    """
    if (inds is None) == (num_samples is None):
        raise DataError("Give either inds, the numbers of the batch's examples, or num_samples, how many they are.")
    rows = np.arange(cursor, cursor + size) if inds is None else _integers(inds)
    claimed = len(rows) if num_samples is None else num_samples
    if claimed != size:
        raise DataError(
            f"{'inds' if num_samples is None else 'num_samples'} says {claimed}, but the batch holds {size} examples."
        )
    if len(np.unique(rows)) != len(rows):
        raise DataError("inds names an example twice.")
    if rows.min() < 0 or rows.max() >= total:
        raise DataError(
            f"The batch reaches from {what} {int(rows.min())} to {int(rows.max())}, but there are {total}, from 0 to "
            f"{total - 1}."
        )
    return rows


def _integers(inds: Any) -> Int64[np.ndarray, " size"]:
    rows = np.asarray(inds.detach().cpu() if isinstance(inds, Tensor) else inds).reshape(-1)
    if rows.dtype.kind not in "iu":
        raise DataError(f"inds must be integers, but has dtype {rows.dtype}.")
    return rows.astype(np.int64)
