"""The class and the workflow: the same numbers, and each opens what the other wrote."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from traker_problem import batches

from trakflow import TRAKer
from trakflow.config.stages import VERSIONS
from trakflow.errors import CheckpointError, ConfigError, DataError, StoreError
from trakflow.models.mlp import MLP
from trakflow.models.weights import weights_hash
from trakflow.stages.attribute import choose_ridge, finalize, score
from trakflow.stages.describe import describe
from trakflow.stages.featurize import featurize_targets
from trakflow.stages.import_features import import_features
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import file_hash
from trakflow.tasks.classification import Classification

GIVEN = ("solver.ridge=1", "evaluation=none")


@pytest.fixture
def finished(experiment):
    run = experiment(*GIVEN).prepare().train().featurize().solve()
    run.run(describe)
    return run


def arrays(path):
    data = load_file(path)
    return data["inputs"], data["labels"]


def states(run):
    return [load_file(run.layout.checkpoint(number)) for number in run.checkpoints]


def attributor(run, folder, **changed):
    settings = {"proj_dim": 16, "use_half_precision": False, "logging_level": 40, "device": "cpu", **changed}
    return TRAKer(MLP(64, [8], 10), "image_classification", 60, save_dir=folder, **settings)


def featurized(run, folder, train=None, **changed):
    traker = attributor(run, folder, **changed)
    for number, state in enumerate(states(run)):
        traker.load_checkpoint(state, model_id=number)
        for batch in batches(train or arrays(run.layout.train), 25):
            traker.featurize(batch, num_samples=len(batch[0]))
    traker.finalize_features()
    return traker


def scored(run, traker, name="test"):
    targets = arrays(run.layout.targets)
    for number, state in enumerate(states(run)):
        traker.start_scoring_checkpoint(name, state, model_id=number, num_targets=7)
        traker.score(targets, num_samples=7)
    return np.array(traker.finalize_scores(name))


def require_equal(found, expected):
    error = np.abs(found - expected).max(axis=0)
    assert (error <= 1e-4 * np.abs(expected).max(axis=0)).all()


def test_the_same_configuration_gives_the_same_scores(finished, tmp_path):
    require_equal(scored(finished, featurized(finished, tmp_path / "own")), finished.scores())


def test_the_class_opens_a_results_folder_and_changes_nothing_of_it(finished, tmp_path):
    folder = tmp_path / "results"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    traker = attributor(finished, folder)
    assert traker.model_ids == [0, 1, 2]
    traker.finalize_features()
    require_equal(scored(finished, traker), finished.scores())
    assert all(path.read_bytes() == content for path, content in before.items())
    new = {path for path in folder.rglob("*") if path.is_file()} - before.keys()
    assert {path.relative_to(folder).parts[0] for path in new} == {"traker"}
    # The workflow's own kernels served.
    assert not (folder / "traker" / "kernels").exists()


def test_the_class_scores_new_targets_by_the_workflows_features(finished, tmp_path):
    traker = attributor(finished, tmp_path / "results", lambda_reg=0.5)
    # Without W the kernels are others, and are made beside the workflow's.
    with pytest.raises(StoreError, match="call finalize_features"):
        traker.start_scoring_checkpoint("new", states(finished)[0], model_id=0, num_targets=1)
    traker.finalize_features()
    own = featurized(finished, tmp_path / "own", lambda_reg=0.5)
    require_equal(scored(finished, traker), scored(finished, own))


def test_features_of_another_version_are_not_scored_with(finished, tmp_path, monkeypatch):
    own = featurized(finished, tmp_path / "own")
    monkeypatch.setitem(VERSIONS, "featurize", VERSIONS["featurize"] + 1)
    workflows = attributor(finished, tmp_path / "results")
    for traker in (workflows, own):
        with pytest.raises(StoreError, match="version"):
            traker.start_scoring_checkpoint("test", states(finished)[0], model_id=0, num_targets=7)
    with pytest.raises(ConfigError, match="version is"):
        attributor(finished, tmp_path / "own")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"proj_dim": 32}, "proj_dim: 32 here, 16 in the workflow"),
        ({"projector": "sjlt"}, "projector: 'sjlt' here"),
        ({"projector_seed": 3}, "projector_seed: 3 here, 0 in the workflow"),
        ({"use_half_precision": True}, "use_half_precision: 'float16' here"),
    ],
)
def test_a_results_folder_of_other_settings_is_refused(finished, tmp_path, changed, message):
    with pytest.raises(ConfigError, match=message):
        attributor(finished, tmp_path / "results", **changed)


def test_a_results_folder_is_not_featurized_into(finished, tmp_path):
    traker = attributor(finished, tmp_path / "results")
    first, second, _ = states(finished)
    with pytest.raises(CheckpointError, match="model_id=0"):
        traker.load_checkpoint(second, model_id=0)
    with pytest.raises(StoreError, match="unknown"):
        traker.load_checkpoint(first, model_id=3)
    (tmp_path / "results" / "features" / "1" / "1.safetensors").unlink()
    with pytest.raises(StoreError, match="run the workflow"):
        traker.load_checkpoint(second, model_id=1)


def test_the_hash_of_a_state_dict_is_that_of_the_workflows_file(finished):
    assert weights_hash(states(finished)[0]) == file_hash(finished.layout.checkpoint(0))


def take(run, *overrides, shards=3):
    """Run the workflow's stages with features from elsewhere."""
    run.configure(*GIVEN, f"shards={shards}", *overrides)
    for number in run.checkpoints:
        for shard in range(shards):
            run.run(import_features, checkpoint=number, shard=shard)
        run.run(featurize_targets, checkpoint=number)
        run.run(finalize, checkpoint=number)
    run.run(choose_ridge)
    run.run(score)
    return run.scores()


def test_the_workflow_takes_the_classes_features(finished, tmp_path):
    expected = finished.scores()
    featurized(finished, tmp_path / "own")
    for path in (tmp_path / "results" / "features").rglob("*.safetensors"):
        path.unlink()
    require_equal(take(finished, f"features_from={tmp_path / 'own'}"), expected)
    file = ArrayFile(finished.layout.features(0, 2))
    assert (file.provenance["start"], file.provenance["stop"]) == (40, 60)
    assert file.provenance["seconds"] > 0


def test_the_workflow_takes_another_experiments_features(finished, experiment, tmp_path):
    other = experiment(*GIVEN, name="other").prepare().train()
    np.testing.assert_array_equal(take(other, f"features_from={tmp_path / 'results'}", shards=2), finished.scores())


def test_the_workflow_refuses_features_of_other_examples(finished, tmp_path):
    inputs, labels = arrays(finished.layout.train)
    order = torch.arange(59, -1, -1)
    featurized(finished, tmp_path / "own", train=(inputs[order], labels[order]))
    with pytest.raises(StoreError, match="featurized again, gives others"):
        take(finished, f"features_from={tmp_path / 'own'}")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["seed=1"], StoreError, "gives others"),
        (["sketch=sjlt", "sketch.k=16"], StoreError, "gives others"),
        (["sketch.k=32"], StoreError, "k 16, but sketch.k is 32"),
        (["sketch.dtype=float16"], StoreError, "dtype float32"),
    ],
)
def test_the_workflow_refuses_features_of_other_settings(finished, experiment, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        take(finished, f"features_from={tmp_path / 'results'}", *overrides)


@pytest.mark.parametrize("name", ["loss_gradient", "curvature"])
def test_the_workflow_refuses_another_q_or_w_under_the_same_features(finished, tmp_path, monkeypatch, name):
    """As a task with another loss makes them."""
    own = getattr(Classification, name)
    with monkeypatch.context() as patch:
        patch.setattr(Classification, name, lambda self, raw, batch: 1.1 * own(self, raw, batch))
        featurized(finished, tmp_path / "own")
    with pytest.raises(StoreError, match="gives others"):
        take(finished, f"features_from={tmp_path / 'own'}")


def test_the_workflow_refuses_features_of_another_checkpoint(finished, experiment, tmp_path):
    other = experiment(*GIVEN, "training.epochs=9", name="other").prepare().train()
    with pytest.raises(CheckpointError, match="another checkpoint"):
        take(other, "training.epochs=9", f"features_from={tmp_path / 'results'}")


def test_a_loader_that_shuffles_is_found_over_a_results_folder(finished, tmp_path):
    """Its files do not say which examples they are of; the first loop over the data does."""
    traker, (inputs, labels) = attributor(finished, tmp_path / "results"), arrays(finished.layout.train)
    for number, state in enumerate(states(finished)[:2]):
        traker.load_checkpoint(state, model_id=number)
        if number:
            with pytest.raises(DataError, match="does not shuffle"):
                traker.featurize((inputs.flip(0), labels.flip(0)), num_samples=60)
        else:
            traker.featurize((inputs, labels), num_samples=60)


def test_targets_of_a_results_folder_are_known_again(finished, tmp_path):
    traker = attributor(finished, tmp_path / "results")
    traker.finalize_features()
    scored(finished, traker)
    traker.start_scoring_checkpoint("other", states(finished)[0], model_id=0, num_targets=7)
    inputs, labels = arrays(finished.layout.targets)
    traker.score((inputs, labels), num_samples=7)
    with pytest.raises(DataError, match="another exp_name"):
        traker.score((inputs.flip(0), labels), inds=list(range(7)))
