"""Examples as named arrays: what a data set returns, and how it lies on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from trakflow.data.streamed import StreamedRows, write_streamed
from trakflow.errors import DataError
from trakflow.store.array_file import ArrayFile, write_arrays

# What is said of examples, kept as text beside their arrays; no task reads it.
TEXTS = ("ids", "texts", "groups")
# Which labels are known to be wrong; kept beside the arrays too, and no task reads it either.
FLIPPED = "flipped"
RESERVED = {*TEXTS, "attributed_labels"}


@dataclass(frozen=True)
class Examples:
    """A set of examples.

    Attributes:
        arrays: Arrays with one row an example, at least `inputs` (float32 or integer) and, for tasks with labels,
            `labels` (n, int64). Tasks read them by these names. `StreamedRows` stand for what memory cannot hold. Of
            `flipped` (n, bool), which labels are known to be wrong, no task knows.
        ids: The data set's own name of each example, kept as text; empty means its index.
        texts: Each example as a person reads it (a sentence, a caption), for galleries; empty where it is an image.
        groups: The group that each example belongs to (its speech, its film); empty where there are none.
    """

    arrays: Mapping[str, Any]
    ids: Sequence[Any] | np.ndarray = field(default_factory=list)
    texts: Sequence[str] = field(default_factory=list)
    groups: Sequence[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def labels(self) -> np.ndarray | None:
        """The labels, where there are any."""
        found = self.arrays.get("labels")
        return None if found is None else found[:]


def as_examples(value: Any) -> Examples:
    """Bring what a user's data callable returned to `Examples`.

    Args:
        value: `Examples`, a tuple (inputs, labels) of arrays or tensors, or a map-style data set of (input, label) or
            of mappings, whose arrays are known by their names.

    Returns:
        The examples, with inputs as float32 where they were floating.

    Raises:
        DataError: It is none of these, or empty; inputs differ in shape, are no numbers or partly masked; labels
            are no integers.
    """
    if isinstance(value, Examples):
        if not value.arrays:
            raise DataError("Examples hold no arrays; give at least `inputs`, with a row for each example.")
        arrays = _named(value.arrays)
        return Examples(arrays, *([str(text) for text in texts] for texts in (value.ids, value.texts, value.groups)))
    if isinstance(value, tuple) and len(value) == 2:
        inputs, labels = value
    elif hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping):
        items = [value[index] for index in range(len(value))]
        if items and all(isinstance(item, Mapping) and item.keys() == items[0].keys() for item in items):
            return Examples(_named({str(name): [item[name] for item in items] for name in items[0]}))
        if not items or not all(isinstance(item, Sequence) and len(item) == 2 for item in items):
            raise DataError(
                "The data set must hold (input, label) pairs, or mappings with the same keys, and at least one. Or "
                "return trakflow.data.examples.Examples, which holds any arrays by name."
            )
        inputs, labels = [item[0] for item in items], [_plain(item[1]) for item in items]
    else:
        raise DataError(
            f"The data callable returned {type(value).__name__}; return trakflow.data.examples.Examples, a tuple "
            "(inputs, labels), or a map-style data set of (input, label) or of mappings."
        )
    return Examples({"inputs": _rows(inputs), "labels": _labels(labels)})


def _named(given: Mapping[str, Any]) -> dict[str, np.ndarray | StreamedRows]:
    arrays = {name: _labels(array) if name == "labels" else _rows(array) for name, array in given.items()}
    if reserved := RESERVED & arrays.keys():
        raise DataError(f"Examples hold an array '{reserved.pop()}', a name that trakflow keeps for itself; rename it.")
    return arrays


def _rows(values: Any) -> np.ndarray | StreamedRows:
    """One row an example, float32 where it was floating."""
    if isinstance(values, StreamedRows):
        return values
    try:
        array = np.stack([_plain(row) for row in values]) if isinstance(values, list) else _plain(values)
    except ValueError as error:
        raise DataError(f"The examples' inputs have different shapes; pad or resize them to one ({error}).") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"The examples' inputs are no numbers (dtype {array.dtype}); encode them first.")
    if not array.ndim:
        raise DataError(f"The examples' inputs are one number, {array}; give an array with a row for each example.")
    return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="))


def _plain(value: Any) -> np.ndarray:
    """A numpy array of anything array-like, tensors on any device and of any dtype among it."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    if np.ma.is_masked(value):
        raise DataError("Some of the examples' numbers are masked; fill them in or leave those examples out.")
    return np.asarray(value)


def _labels(values: Any) -> np.ndarray:
    values = values[:] if isinstance(values, StreamedRows) else values
    try:
        array = np.asarray([_plain(label) for label in values]) if isinstance(values, list) else _plain(values)
    except ValueError as error:
        raise DataError(f"The examples' labels have different shapes; give one to all of them ({error}).") from error
    if array.dtype.kind not in "iub":
        raise DataError(
            f"Labels must be integers, the numbers of classes, but have dtype {array.dtype}; encode them first. Real "
            "numbers to be predicted belong in an array `values` of trakflow.data.examples.Examples, for "
            "task=regression."
        )
    if not array.ndim:
        raise DataError(f"The labels are one number, {array}; give one for each example.")
    return array.astype(np.int64)


def check_examples(examples: Examples, size: int, num_classes: int | None, setting: str) -> None:
    """Refuse examples that the configuration does not describe.

    Args:
        examples: The examples.
        size: How many the configuration states.
        num_classes: Labels must lie in [0, num_classes) if given.
        setting: The configuration key that states the size, for the message.

    Raises:
        DataError: Another number of rows, NaN or Inf, or labels out of range; names the examples.
    """
    for name, array in examples.arrays.items():
        if len(array) != size:
            raise DataError(f"'{name}' has {len(array)} examples but {setting} is {size}; make them agree.")
        if np.issubdtype(array.dtype, np.floating):
            bad = ~np.isfinite(array.reshape(size, -1)).all(axis=1)
            _refuse(bad, examples, f"hold NaN or Inf in '{name}'; remove or repair them")
    for name in TEXTS:
        if 0 < (count := len(getattr(examples, name))) != size:
            raise DataError(f"There are {count} {name} but {setting} is {size}; make them agree.")
    labels = examples.labels
    if labels is not None and labels.ndim == 1 and num_classes is None:
        raise DataError("The examples have labels, so data.num_classes must say how many classes there are.")
    if labels is not None and num_classes is not None:
        bad = (labels < 0) | (labels >= num_classes)
        _refuse(bad, examples, f"have labels outside 0 to {num_classes - 1} (data.num_classes is {num_classes})")


def _refuse(bad: np.ndarray, examples: Examples, why: str) -> None:
    indices = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    if len(indices):
        named = ", ".join(
            f"{index}" + (f" ({examples.ids[index]})" if len(examples.ids) else "") for index in indices[:5]
        )
        more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
        raise DataError(f"Examples {named}{more} {why}.")


def write_examples(path: str | Path, examples: Examples, provenance: Mapping[str, Any]) -> None:
    """Write examples as one array file; ids, texts and groups are kept as zero-padded UTF-8 bytes (n x longest)."""
    texts = {name: _encoded(getattr(examples, name)) for name in TEXTS if len(getattr(examples, name))}
    texts.setdefault("ids", _encoded([str(index) for index in range(len(examples))]))
    arrays = {**examples.arrays, **texts}
    whole = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    if len(whole) == len(arrays):
        write_arrays(path, whole, provenance)
    else:
        write_streamed(path, arrays, provenance)


def _encoded(texts: Sequence[str]) -> Shaped[np.ndarray, "n longest"]:
    try:
        encoded = np.array([text.encode() for text in map(str, texts)], dtype=np.bytes_)
    except UnicodeEncodeError as error:
        raise DataError(f"Ids, texts and groups must be valid Unicode, but {error.object!r} is not.") from error
    return np.frombuffer(encoded.tobytes(), dtype=np.uint8).reshape(len(texts), -1)


def read_texts(
    file: ArrayFile, name: str, rows: Integer[np.ndarray, " rows"] | slice = slice(None)
) -> list[str] | None:
    """Return the `texts` or `groups` of some examples, by default of all; None where the data set has none."""
    if name not in file:
        return None
    return [bytes(row).rstrip(b"\0").decode() for row in file.read(name)[rows]]


def read_ids(file: ArrayFile, rows: Integer[np.ndarray, " rows"] | slice = slice(None)) -> list[str]:
    """Return the data set's own ids of some examples, by default of all."""
    return read_texts(file, "ids", rows) or []


def read_arrays(
    file: ArrayFile, rows: slice | Integer[np.ndarray, " rows"] = slice(None)
) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
    """Return some rows of the arrays that tasks read, by default all; nothing outside their range stays in memory."""
    found = {}
    for name in file.names:
        if name in TEXTS or name == FLIPPED:
            continue
        if isinstance(rows, slice):
            first, last, step = rows.indices(file.shape(name)[0])
            found[name] = file.read(name, first, last)[::step]
        else:
            first = int(rows.min())
            found[name] = file.read(name, first, int(rows.max()) + 1)[rows - first]
    return found
