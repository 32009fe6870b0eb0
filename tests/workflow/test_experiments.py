"""Every experiment that is there: its DAG can be built, and has what its configuration says."""

import pytest
from run_snakemake import planned

from trakflow.config.compose import CONFIG_ROOT, compose_config

EXPERIMENTS = sorted(path.stem for path in CONFIG_ROOT.glob("experiment/*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_dag_of_every_experiment_can_be_built(experiment, tmp_path):
    config = compose_config(experiment)
    rules = planned(tmp_path, [], experiment=experiment)
    total = config.checkpoints.total
    assert rules["featurize"] == total * config.shards
    assert rules["train_checkpoint"] + rules["import_checkpoint"] == total
    assert rules["score"] == rules["draw_gallery"] == 1
    assert rules["evaluate"] == (config.evaluation.source != "none")
