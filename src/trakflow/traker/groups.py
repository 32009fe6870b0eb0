"""Scores of a set of targets, summed over groups of training examples."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from trakflow.data.groups import Groups, groups_by_name
from trakflow.errors import DataError, StoreError
from trakflow.group_scores import GroupSums
from trakflow.store.numpy_files import map_numpy

# Scores that are looked at together, in bytes.
BLOCK_BYTES = 1 << 25


class GroupScores(NamedTuple):
    """Groups in the order in which they first appear: names, numbers of examples, and sums of scores (groups x m)."""

    names: list[str]
    sizes: Int64[np.ndarray, " groups"]
    scores: Float32[np.ndarray, "groups m"]


def check_groups(groups: Any, total: int) -> Groups:
    """Return groups of training examples.

    Args:
        groups: The name of each example's group.
        total: How many examples there are.

    Raises:
        DataError: It is one name instead of many, or there are more or fewer names than examples.
    """
    if isinstance(groups, str) or not hasattr(groups, "__len__"):
        raise DataError(f"groups is {type(groups).__name__}; give a sequence of names, one a training example.")
    if len(groups) != total:
        raise DataError(f"groups names {len(groups)} examples, but train_set_size is {total}; give a name an example.")
    # Tensors would all be different things, even of equal values.
    plain = groups.tolist() if hasattr(groups, "tolist") else groups
    return groups_by_name(plain)


def sum_scores(path: Path, groups: Groups, name: str) -> GroupScores:
    """Sum the rows of a scores file over groups, in float64.

    Args:
        path: The file (n x m).
        groups: Of the n training examples.
        name: Of the set of targets, for messages.

    Raises:
        StoreError: The scores are not there.
    """
    if not path.is_file():
        raise StoreError(f"There are no scores of exp_name='{name}' in {path.parent}; call finalize_scores first.")
    scores = map_numpy(path)
    found = np.empty((len(groups), scores.shape[1]), np.float32)

    def keep(group: int, target: int, sums: np.ndarray) -> None:
        found[group : group + len(sums), target : target + sums.shape[1]] = sums

    sums = GroupSums(groups, keep)
    rows = max(1, BLOCK_BYTES // (4 * scores.shape[1]))
    for start in range(0, len(scores), rows):
        sums.add(start, 0, np.array(scores[start : start + rows]))
    sums.finish()
    return GroupScores(groups.names, groups.sizes, found)
