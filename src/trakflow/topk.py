"""The most helpful and most harmful training examples of each target, kept while blocks of scores come by."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from trakflow.data.examples import read_ids
from trakflow.layout import Layout
from trakflow.store import ArrayFile, atomic_path

if TYPE_CHECKING:
    import pandas as pd

# Scores that are compared at a time, which bounds what is sorted at a time.
COMPARED = 1 << 20
DIRECTIONS = ("harmful", "helpful")


class _Best:
    """The largest values of each column so far, in flat arrays sorted by column, then rank."""

    def __init__(self, count: int, columns: int):
        self.count = count
        self.column, self.row = np.zeros((2, 0), dtype=np.int64)
        self.value = np.zeros(0, dtype=np.float32)
        # What a row must exceed to enter: equal values belong to the row that came before.
        self.bar = np.full(columns, -np.inf, dtype=np.float32)
        self.full = False

    def add(self, first: int, values: Float32[np.ndarray, "rows columns"]) -> None:
        # Not `values > bar`: a NaN passes and is sorted last, so that a column of them does not come out short.
        beaten = ~(values <= self.bar) if self.full else np.ones(values.shape, dtype=bool)
        flat = np.flatnonzero(beaten)
        if not len(flat):
            return
        row, column = np.divmod(flat, values.shape[1])
        column, row = np.concatenate([self.column, column]), np.concatenate([self.row, row + first])
        value = np.concatenate([self.value, values.reshape(-1)[flat]])
        order = np.lexsort((row, -value, column))
        ranks = self.ranks(column[order])
        order = order[ranks < self.count]
        self.column, self.row, self.value = column[order], row[order], value[order]
        last = np.cumsum(np.bincount(self.column, minlength=len(self.bar))) - 1
        self.full = len(order) == self.count * len(self.bar)
        self.bar = self.value[last] if self.full else self.bar

    @staticmethod
    def ranks(column: Int[np.ndarray, " kept"]) -> Int[np.ndarray, " kept"]:
        """Place of each entry within its column, from 0."""
        return np.arange(len(column)) - np.searchsorted(column, column)


@dataclass
class TopExamples:
    """Collects the top of each column of scores; what it holds does not grow with the number of rows.

    Args:
        count: How many of each direction are kept.
    """

    count: int
    _best: dict[tuple[int, str], _Best] = field(default_factory=dict)

    def add(self, first_row: int, first_target: int, scores: Float32[np.ndarray, "rows columns"]) -> None:
        """Take a block of scores; ties go to the lower row.

        Args:
            first_row: Training example of the block's first row. Blocks of the same targets come in ascending order.
            first_target: Target of the block's first column. Blocks share all of their targets or none.
            scores: The block.
        """
        columns = scores.shape[1]
        for direction in DIRECTIONS:
            best = self._best.setdefault((first_target, direction), _Best(self.count, columns))
            start, rows = 0, self.count
            while start < len(scores):
                part = scores[start : start + rows]
                best.add(first_row + start, part if direction == "helpful" else -part)
                # The first few rows set a bar that spares most of the others being sorted.
                start, rows = start + rows, max(1, min(2 * rows, COMPARED // columns))

    def write(self, layout: Layout) -> None:
        """Write the table as parquet, with ids and labels from the data set."""
        import pandas as pd

        train, targets = ArrayFile(layout.train), ArrayFile(layout.targets)
        table = pd.concat([self._table(*key) for key in sorted(self._best)], ignore_index=True)
        table = table.sort_values(["target", "direction", "rank"], kind="stable", ignore_index=True)
        table.insert(4, "train_id", np.array(read_ids(train, table["train_index"].to_numpy()), dtype=object))
        table.insert(1, "target_id", np.array(read_ids(targets, table["target"].to_numpy()), dtype=object))
        for column, file, name, rows in (
            ("train_label", train, "labels", "train_index"),
            ("target_label", targets, "labels", "target"),
            ("attributed_label", targets, "attributed_labels", "target"),
        ):
            if name in file:
                table[column] = file.read(name)[table[rows]]
        with atomic_path(layout.score_topk) as temporary:
            table.to_parquet(temporary, index=False)

    def _table(self, first_target: int, direction: str) -> "pd.DataFrame":
        import pandas as pd

        best = self._best[first_target, direction]
        return pd.DataFrame(
            {
                "target": first_target + best.column,
                "direction": direction,
                "rank": best.ranks(best.column) + 1,
                "train_index": best.row,
                "score": best.value if direction == "helpful" else -best.value,
            }
        )
