"""Named groups of training examples: a speech, a film, a class. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from trakflow.data.examples import Examples, read_texts
from trakflow.errors import DataError
from trakflow.store.array_file import ArrayFile


@dataclass(frozen=True)
class Groups:
    """A partition of examples.

    Attributes:
        names: Of each group.
        members: The number of each example's group.
    """

    names: list[str]
    members: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> Int64[np.ndarray, " groups"]:
        """How many examples each group has."""
        return np.bincount(self.members, minlength=len(self))


def groups_by_name(names: Sequence[object]) -> Groups:
    """Return the groups of examples that share a name, in the order in which they first appear."""
    numbers: dict[str, int] = {}
    members = [numbers.setdefault(str(name), len(numbers)) for name in names]
    return Groups(list(numbers), np.array(members, dtype=np.int64))


def groups_by_label(labels: Shaped[np.ndarray, "n ..."], class_names: Sequence[str] | None) -> Groups:
    """Return the classes of which there are examples, ascending.

    Args:
        labels: One integer an example.
        class_names: What classes are called; None for their numbers.

    Raises:
        DataError: Examples have more than one label each.
    """
    if labels.ndim != 1:
        raise DataError(
            f"scores.groups=labels, but the examples' labels have shape {labels.shape}, not one class an example; set "
            "scores.groups=own and return Examples with groups, or scores.groups=null."
        )
    found, members = np.unique(labels, return_inverse=True)
    return Groups([class_names[label] if class_names else f"label {label}" for label in found], members)


def groups_of_examples(examples: Examples, kind: str, class_names: Sequence[str] | None) -> Groups:
    """Return the groups of training examples.

    Args:
        examples: The training set.
        kind: `own`: by `Examples.groups`; `labels`: by class.
        class_names: What classes are called; None for their numbers.

    Raises:
        DataError: The examples have no groups, or no classes.
    """
    return _groups(kind, examples.groups, examples.labels, class_names)


def read_groups(file: ArrayFile, kind: str, class_names: Sequence[str] | None) -> Groups:
    """Return the groups of training examples on disk; arguments and errors as `groups_of_examples`."""
    labels = file.read("labels") if "labels" in file else None
    return _groups(kind, read_texts(file, "groups"), labels, class_names)


def _groups(
    kind: str, names: Sequence[object] | None, labels: np.ndarray | None, class_names: Sequence[str] | None
) -> Groups:
    if kind == "own":
        if not names:
            raise DataError(
                "scores.groups=own, but the training examples have no groups. Return trakflow.data.examples.Examples "
                "with groups, a name an example, from data.train; or set scores.groups to labels or null."
            )
        return groups_by_name(names)
    if labels is None:
        raise DataError(
            "scores.groups=labels, but the training examples have no labels; set scores.groups to own or null."
        )
    return groups_by_label(labels, class_names)
