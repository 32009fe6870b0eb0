"""Captions of the paper's figures name what was retrained for the figure that they are of."""

from trakflow.config.compose import compose_config
from trakflow.figures.captions import caption

FACTS = {"experiment": "one", "machine": "a machine", "threads": 1, "seconds": 0.5, "passes": 7, "repeats": 3}


def test_removal_is_of_targets_and_their_retrains_and_the_lds_of_subsets():
    config = compose_config("digits", ["removal.targets=20", "removal.retrains=4"])
    removal, checkpoints = (caption(name, config, FACTS).splitlines() for name in ("removal", "lds_vs_checkpoints"))
    assert "20 targets with 4 retrains each; intervals are over targets." in removal
    assert not any("subsets" in line for line in removal)
    assert "LDS over 100 subsets with 3 retrains each." in checkpoints
