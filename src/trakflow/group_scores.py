"""Scores of groups: sums over their examples, made while blocks of scores come by.

Scores estimate what an output loses without an example, and to first order what it loses without several is the sum.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from trakflow.data.examples import read_ids
from trakflow.data.groups import Groups
from trakflow.layout import Layout
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import atomic_path
from trakflow.store.numpy_files import WriteBlock, numpy_file
from trakflow.topk import TopExamples

if TYPE_CHECKING:
    import pandas as pd

# Scores that are brought to float64 at a time.
CONVERTED = 1 << 18


class GroupSums:
    """Sums scores over groups in float64; what it holds is the sums of one block of targets (groups x columns).

    Args:
        groups: Of the training examples.
        write: Takes the finished sums as float32: first group, first target, block.
    """

    def __init__(self, groups: Groups, write: WriteBlock):
        self._count = len(groups)
        self._members = torch.from_numpy(groups.members)
        self._write = write
        self._first_target = 0
        self._sums: Tensor | None = None

    def add(self, first_row: int, first_target: int, scores: Float32[np.ndarray, "rows columns"]) -> None:
        """Take a block of scores.

        Args:
            first_row: Training example of the block's first row.
            first_target: Target of the block's first column. All blocks of some targets come before those of others.
            scores: The block.
        """
        if self._sums is None or first_target != self._first_target:
            self.finish()
            self._first_target = first_target
            self._sums = torch.zeros(self._count, scores.shape[1], dtype=torch.float64)
        members = self._members[first_row : first_row + len(scores)]
        rows = max(1, CONVERTED // scores.shape[1])
        for part, own in zip(torch.from_numpy(scores).split(rows), members.split(rows), strict=True):
            self._sums.index_add_(0, own, part.double())

    def finish(self) -> None:
        """Write the sums of the last block of targets."""
        if self._sums is not None:
            self._write(0, self._first_target, self._sums.float().numpy())
        self._sums = None


def columns_within(groups: Groups, memory_bytes: int) -> int:
    """Return for how many targets at a time the sums stay within some memory, at least one."""
    return max(1, memory_bytes // (8 * len(groups)))


def group_table(groups: Groups) -> "pd.DataFrame":
    """Return a table of the groups: columns group (its number, the row in the scores), name, size."""
    import pandas as pd

    return pd.DataFrame({"group": np.arange(len(groups)), "name": groups.names, "size": groups.sizes})


@contextlib.contextmanager
def group_scores_file(groups: Groups, layout: Layout, targets: int, count: int) -> Iterator[WriteBlock]:
    """Yield what takes blocks of scores, as `GroupSums.add` does; afterwards write sums, groups and best groups.

    Args:
        groups: Of the training examples.
        layout: Where to, and where the targets are.
        targets: Their number.
        count: How many groups of each direction are kept for a target, if there are as many.
    """
    top = TopExamples(min(count, len(groups)))
    with numpy_file(layout.group_scores, (len(groups), targets), np.float32) as write:

        def finished(first_group: int, first_target: int, sums: Float32[np.ndarray, "groups columns"]) -> None:
            write(first_group, first_target, sums)
            top.add(first_group, first_target, sums)

        sums = GroupSums(groups, finished)
        yield sums.add
        sums.finish()
    _write_tables(groups, top, layout)


def _write_tables(groups: Groups, top: TopExamples, layout: Layout) -> None:
    targets = ArrayFile(layout.targets)
    groups_table = group_table(groups)
    table = top.table().rename(columns={"train_index": "group"})
    table.insert(1, "target_id", np.array(read_ids(targets, table["target"].to_numpy()), dtype=object))
    for place, column in enumerate(("name", "size"), start=list(table.columns).index("group") + 1):
        table.insert(place, column, groups_table[column].to_numpy()[table["group"]])
    # One label a token is no label of the target.
    if "attributed_labels" in targets and len(targets.shape("attributed_labels")) == 1:
        table["attributed_label"] = targets.read("attributed_labels")[table["target"]]
    for path, written in ((layout.group_table, groups_table), (layout.group_topk, table)):
        with atomic_path(Path(path)) as temporary:
            written.to_parquet(temporary, index=False)
