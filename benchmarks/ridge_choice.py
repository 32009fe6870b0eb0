"""How close the ridge chosen by the self-LDS comes to the best of its grid, by a finished experiment's real LDS."""

import sys
from functools import partial

import numpy as np
import pandas as pd

from trakflow.config.compose import compose_config
from trakflow.config.schema import Config
from trakflow.evaluation.lds import lds, predicted_outputs
from trakflow.layout import Layout
from trakflow.scoring import score_blocks
from trakflow.stages.attribute import by_self_lds, features_of, load_parts
from trakflow.stages.evaluate import evaluation_data
from trakflow.store.files import atomic_path

COUNTS = (2, 3, 5, 10)


def lds_at(config: Config, layout: Layout, count: int, ridge: float, masks: np.ndarray, actual: np.ndarray) -> float:
    """Return the LDS of the first `count` checkpoints at a relative ridge."""
    loaders = [partial(load_parts, config, layout, number, (ridge, "relative")) for number in range(count)]
    size, targets = config.data.train_size, config.data.target_count
    scores = np.empty((size, targets), dtype=np.float32)
    for row, target, block in score_blocks(loaders, size, targets, features_of(config, layout, 0).k, 2**28):
        scores[row : row + block.shape[0], target : target + block.shape[1]] = block
    return lds(predicted_outputs(scores, masks), actual)


def choices(config: Config, layout: Layout, count: int) -> pd.DataFrame:
    """Return self-LDS and LDS of the first `count` checkpoints at each ridge of the grid, and which was chosen."""
    masks, outputs = evaluation_data(config, layout)
    ridge = by_self_lds(config, layout, count)
    table = pd.DataFrame(ridge["curve"])
    table["lds"] = [lds_at(config, layout, count, value, masks, outputs.mean(axis=0)) for value in table["ridge"]]
    table["chosen"] = table["ridge"] == ridge["value"]
    table.insert(0, "checkpoints", count)
    chosen, best = table[table["chosen"]].iloc[0], table.loc[table["lds"].idxmax()]
    print(
        f"{count} checkpoints: chosen {chosen['ridge']:.3g}: LDS {chosen['lds']:.4f}; best {best['ridge']:.3g}: LDS "
        f"{best['lds']:.4f}; ratio {chosen['lds'] / best['lds']:.4f}"
    )
    return table


def main(experiment: str) -> None:
    """Write the table, and print what was chosen."""
    config, layout = compose_config(experiment), Layout(f"results/{experiment}")
    counts = [count for count in COUNTS if count <= config.checkpoints.total]
    table = pd.concat([choices(config, layout, count) for count in counts])
    with atomic_path(f"results/benchmarks/ridge_choice_{experiment}.csv") as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main(sys.argv[1])
