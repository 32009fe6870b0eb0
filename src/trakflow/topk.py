"""The most helpful and most harmful training examples of each target, kept while blocks of scores come by."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from trakflow.data.examples import read_ids
from trakflow.layout import Layout
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

# Scores that are compared at a time, which bounds what is sorted at a time.
COMPARED = 1 << 18
SIGNS = {"harmful": -1, "helpful": 1}


class _Best:
    """The best values of each column so far, in flat arrays sorted by column, then rank.

    Values are kept times `sign`, so that the best is the largest.
    """

    def __init__(self, count: int, columns: int, sign: int):
        self.count = count
        self.sign = sign
        self.column, self.row = np.zeros((2, 0), dtype=np.int64)
        self.value = np.zeros(0, dtype=np.float32)
        # What a row must exceed to enter: equal values belong to the row that came before.
        self.bar = np.full(columns, -np.inf, dtype=np.float32)
        self.full = False

    def add(self, first: int, values: Float32[np.ndarray, "rows columns"]) -> None:
        # Not `values > bar`: a NaN passes and is sorted last, so that a column of them does not come out short.
        best = values.max(axis=0) if self.sign > 0 else -values.min(axis=0)
        columns = np.flatnonzero(~(best <= self.bar)) if self.full else np.arange(values.shape[1])
        if not len(columns):
            return
        values = self.sign * values[:, columns]
        beaten = ~(values <= self.bar[columns]) if self.full else np.ones(values.shape, dtype=bool)
        row, column = np.nonzero(beaten)
        self._merge(columns[column], row + first, values[beaten])

    def _merge(self, column: np.ndarray, row: np.ndarray, value: np.ndarray) -> None:
        column, row = np.concatenate([self.column, column]), np.concatenate([self.row, row])
        value = np.concatenate([self.value, value])
        order = np.lexsort((row, -value, column))
        order = order[self.ranks(column[order]) < self.count]
        self.column, self.row, self.value = column[order], row[order], value[order]
        self.full = len(order) == self.count * len(self.bar)
        if self.full:
            self.bar = self.value[self.count - 1 :: self.count]

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
        for direction, sign in SIGNS.items():
            best = self._best.setdefault((first_target, direction), _Best(self.count, columns, sign))
            start, rows = 0, self.count
            while start < len(scores):
                best.add(first_row + start, scores[start : start + rows])
                # The first few rows set a bar that spares most of the others being sorted.
                start, rows = start + rows, max(1, min(2 * rows, COMPARED // columns))

    def write(self, layout: Layout, path: str) -> None:
        """Write the table as parquet, with ids and labels from the data set."""
        train, targets = ArrayFile(layout.train), ArrayFile(layout.targets)
        table = self.table()
        table.insert(4, "train_id", np.array(read_ids(train, table["train_index"].to_numpy()), dtype=object))
        table.insert(1, "target_id", np.array(read_ids(targets, table["target"].to_numpy()), dtype=object))
        for column, file, name, rows in (
            ("train_label", train, "labels", "train_index"),
            ("target_label", targets, "labels", "target"),
            ("attributed_label", targets, "attributed_labels", "target"),
        ):
            # Of labels there may also be several an example, one a token.
            if name in file and len(file.shape(name)) == 1:
                table[column] = file.read(name)[table[rows]]
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)

    def table(self) -> "pd.DataFrame":
        """Return the table, sorted: target, direction, rank (from 1), train_index (the row), score."""
        import pandas as pd

        table = pd.concat([self._table(*key) for key in sorted(self._best)], ignore_index=True)
        return table.sort_values(["target", "direction", "rank"], kind="stable", ignore_index=True)

    def _table(self, first_target: int, direction: str) -> "pd.DataFrame":
        import pandas as pd

        best = self._best[first_target, direction]
        return pd.DataFrame(
            {
                "target": first_target + best.column,
                "direction": direction,
                "rank": best.ranks(best.column) + 1,
                "train_index": best.row,
                "score": best.sign * best.value,
            }
        )
