"""The promises of the default experiments at full size; minutes each, by `make test-slow`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_snakemake import snakemake

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("experiment", "least", "lowest_ceiling"), [("digits", 0.55, 0.85), ("fashion_mnist", 0.70, 0.90)]
)
def test_ten_checkpoints_reach_the_promised_lds(
    tmp_path: Path, experiment: str, least: float, lowest_ceiling: float
) -> None:
    snakemake(tmp_path, [], experiment=experiment)
    table = pd.read_csv(tmp_path / f"results/{experiment}/evaluation/lds.csv")
    assert list(table["checkpoints"]) == [1, 2, 5, 10]
    last = table.iloc[-1]
    assert last["lds"] >= least
    assert last["ci_low"] < last["lds"] < last["ci_high"]
    assert last["ceiling"] > lowest_ceiling
    assert (np.diff(table["lds"]) > 0).all()
