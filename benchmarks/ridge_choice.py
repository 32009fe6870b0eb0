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
from trakflow.stages.attribute import features_of, load_parts
from trakflow.stages.evaluate import evaluation_data
from trakflow.store.files import atomic_path, read_json


def lds_at(config: Config, layout: Layout, ridge: float, masks: np.ndarray, actual: np.ndarray) -> float:
    """Return the LDS of all checkpoints at a relative ridge."""
    loaders = [
        partial(load_parts, config, layout, number, (ridge, "relative")) for number in range(config.checkpoints.total)
    ]
    size, targets = config.data.train_size, config.data.target_count
    scores = np.empty((size, targets), dtype=np.float32)
    for row, target, block in score_blocks(loaders, size, targets, features_of(config, layout, 0).k, 2**28):
        scores[row : row + block.shape[0], target : target + block.shape[1]] = block
    return lds(predicted_outputs(scores, masks), actual)


def main(experiment: str) -> None:
    """Write and print the table."""
    config, layout = compose_config(experiment), Layout(f"results/{experiment}")
    masks, outputs = evaluation_data(config, layout)
    actual = outputs.mean(axis=0)
    ridge = read_json(layout.ridge(config.checkpoints.total))
    table = pd.DataFrame(ridge["curve"])
    table["lds"] = [lds_at(config, layout, value, masks, actual) for value in table["ridge"]]
    table["chosen"] = table["ridge"] == ridge["value"]
    with atomic_path(f"results/benchmarks/ridge_choice_{experiment}.csv") as temporary:
        table.to_csv(temporary, index=False)
    chosen, best = table[table["chosen"]].iloc[0], table.loc[table["lds"].idxmax()]
    print(table.to_string(index=False))
    print(
        f"chosen {chosen['ridge']:.3g}: LDS {chosen['lds']:.4f}; best {best['ridge']:.3g}: LDS {best['lds']:.4f}; "
        f"ratio {chosen['lds'] / best['lds']:.4f}"
    )


if __name__ == "__main__":
    main(sys.argv[1])
