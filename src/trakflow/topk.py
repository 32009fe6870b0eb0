"""The most helpful and most harmful training examples of each target, kept block by block."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from trakflow.data.examples import read_ids
from trakflow.layout import Layout
from trakflow.store import ArrayFile, atomic_path

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class TopExamples:
    """Collects the top of each column of scores.

    Args:
        count: How many of each direction are kept.
    """

    count: int
    _frames: "list[pd.DataFrame]" = field(default_factory=list)

    def add(self, first: int, scores: Float32[np.ndarray, "n columns"]) -> None:
        """Take a block of scores whose first column is target `first`; ties go to the lower index."""
        import pandas as pd

        columns = scores.shape[1]
        for direction, sign in (("helpful", -1), ("harmful", 1)):
            chosen = np.argsort(sign * scores, axis=0, kind="stable")[: self.count]
            self._frames.append(
                pd.DataFrame(
                    {
                        "target": np.repeat(np.arange(first, first + columns), len(chosen)),
                        "direction": direction,
                        "rank": np.tile(np.arange(1, len(chosen) + 1), columns),
                        "train_index": chosen.T.ravel(),
                        "score": np.take_along_axis(scores, chosen, axis=0).T.ravel(),
                    }
                )
            )

    def write(self, layout: Layout) -> None:
        """Write the table as parquet, with ids and labels from the data set."""
        import pandas as pd

        train, targets = ArrayFile(layout.train), ArrayFile(layout.targets)
        table = pd.concat(self._frames).sort_values(["target", "direction", "rank"], kind="stable", ignore_index=True)
        table.insert(4, "train_id", np.array(read_ids(train), dtype=object)[table["train_index"]])
        table.insert(1, "target_id", np.array(read_ids(targets), dtype=object)[table["target"]])
        for column, file, name, rows in (
            ("train_label", train, "labels", "train_index"),
            ("target_label", targets, "labels", "target"),
            ("attributed_label", targets, "attributed_labels", "target"),
        ):
            if name in file:
                table[column] = file.read(name)[table[rows]]
        with atomic_path(layout.score_topk) as temporary:
            table.to_parquet(temporary, index=False)
