"""The image experiments of the paper's sizes: composed whole, and their DAGs built by Snakemake."""

import pytest
from run_snakemake import planned

from trakflow.config.compose import compose_config

# Experiment, its size, and the number of jobs of some rules with two checkpoints.
EXPERIMENTS = {
    "cifar2": (2_000, 10, {"train_checkpoint": 2, "featurize": 2, "retrain": 3, "retrained_outputs": 3}),
    "cifar10": (50_000, 100, {"train_checkpoint": 2, "featurize": 10, "retrain": 50, "finalize": 2}),
    "imagenet": (1_281_167, 30, {"train_checkpoint": 2, "featurize": 64, "retrain": 100, "finalize": 2}),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_image_experiment_has_its_full_size(experiment):
    size, checkpoints, _ = EXPERIMENTS[experiment]
    config = compose_config(experiment)
    assert config.data.train_size == config.data.train["size"] == size
    assert config.checkpoints.total == checkpoints
    assert config.model["outputs"] == config.data.num_classes
    assert config.data.targets["size"] == config.data.target_count
    assert (config.runtime.device == "cuda") == (experiment != "cifar2")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_its_dag_is_built(tmp_path, experiment):
    plan = planned(tmp_path, ["checkpoints.count=2"], experiment=experiment)
    expected = EXPERIMENTS[experiment][2]
    assert {rule: plan[rule] for rule in expected} == expected
    assert plan["prepare_train"] == plan["prepare_targets"] == plan["evaluate"] == plan["score"] == 1
