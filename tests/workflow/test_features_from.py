"""Features that the class made, in a run of the real Snakemake; and folders that hold none or are the own one."""

import shutil

import numpy as np
from run_snakemake import TINY, overrides, planned, snakemake
from safetensors.torch import load_file

from trakflow import TRAKer
from trakflow.models.mlp import MLP


def test_the_workflow_takes_features_that_the_class_made(copy):
    results = copy / "results" / "digits"
    expected = np.load(results / "scores" / "trak.npy")
    train = load_file(results / "data" / "train.safetensors")
    traker = TRAKer(
        MLP(64, [12], 10),
        "image_classification",
        90,
        save_dir=copy / "own",
        proj_dim=40,
        use_half_precision=False,
        device="cpu",
    )
    for number in range(3):
        traker.load_checkpoint(results / "checkpoints" / f"{number}.safetensors", model_id=number)
        traker.featurize((train["inputs"], train["labels"]), num_samples=90)
    traker.finalize_features()
    choices = overrides(TINY, {"features_from": "own"})
    plan = planned(copy, choices)
    assert plan["import_features"] == 6
    assert not plan.keys() & {"featurize", "train_checkpoint", "featurize_targets", "retrain"}
    snakemake(copy, choices)
    found = np.load(results / "scores" / "trak.npy")
    assert (np.abs(found - expected).max(axis=0) <= 1e-4 * np.abs(expected).max(axis=0)).all()
    assert planned(copy, choices) == {}


def test_a_folder_without_features_is_refused_before_any_job(copy):
    shutil.rmtree(copy / "results" / "digits" / "features")
    done = snakemake(copy, overrides(TINY, {"features_from": "nowhere"}), check=False)
    assert done.returncode
    assert "features_from: nowhere/features/0" in done.stdout + done.stderr
    assert "rule " not in done.stdout + done.stderr


def test_the_experiments_own_folder_is_refused_before_any_job(tmp_path):
    done = snakemake(tmp_path, overrides(TINY, {"features_from": "results/digits"}), check=False)
    assert done.returncode
    assert "features_from=results/digits is this experiment's own folder" in done.stdout + done.stderr
    assert "Cyclic" not in done.stdout + done.stderr
