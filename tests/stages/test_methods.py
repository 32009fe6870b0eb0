"""Methods beside TRAK, from their files to the table of linear datamodeling scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from trakflow.config.compose import compose_config
from trakflow.errors import ConfigError, StoreError
from trakflow.stages.evaluate import evaluate, subsets
from trakflow.stages.methods import attribute, attribute_checkpoint, attribute_checkpoints
from trakflow.stages.prepare import prepare_train
from trakflow.stages.retrain import retrain, retrained_outputs
from trakflow.stages.trained import FirstCheckpoints
from trakflow.store.files import read_json

METHODS = ("methods=[trak,tracin,empirical_influence,random]", "fitting.subsets=12", "fitting.counts=[8]")


def retrained(run, purpose, batches, numbers):
    for batch in range(batches):
        run.run(subsets, batch=batch, purpose=purpose)
        for number in range(numbers):
            run.run(retrain, batch=batch, retrain=number, purpose=purpose)
            run.run(retrained_outputs, batch=batch, retrain=number, purpose=purpose)
    return run


@pytest.fixture
def attributed(experiment):
    run = experiment(*METHODS).prepare().train()
    retrained(run, "fitting", 3, 1)
    for checkpoint in run.checkpoints:
        run.run(attribute_checkpoint, method="tracin", checkpoint=checkpoint)
    for method in run.config.methods[1:]:
        run.run(attribute, method=method)
    return run


def test_scores_of_checkpoints_are_averaged_for_each_number_of_them(attributed):
    parts = [load_file(attributed.layout.method_part("tracin", number))["scores"] for number in range(3)]
    for count in (1, 2, 3):
        found = np.load(attributed.layout.score_array(count, 3, "tracin"))
        np.testing.assert_allclose(found, np.mean(parts[:count], axis=0, dtype=float), rtol=1e-5, atol=1e-9)


def test_a_sketch_of_a_methods_own_is_set_in_the_configuration(experiment):
    sketch = "method.tracin.make.sketch={name: sjlt, k: 4000}"
    whole, sketched = (
        experiment("methods=[trak,tracin]", *own, name=name).prepare().train()
        for name, own in (("whole", []), ("sketched", [sketch]))
    )
    for run in (whole, sketched):
        run.run(attribute_checkpoint, method="tracin", checkpoint=0)
    first, second = (load_file(run.layout.method_part("tracin", 0))["scores"] for run in (whole, sketched))
    assert not np.array_equal(first, second)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.95


def test_methods_that_are_fitted_see_the_subsets_of_fitting_and_no_others(attributed):
    files = [load_file(attributed.layout.subsets(batch, "fitting"))["masks"] for batch in range(3)]
    masks = np.concatenate(files).astype(bool)
    outputs = np.concatenate(
        [load_file(attributed.layout.retrained_outputs(0, batch, "fitting"))["outputs"] for batch in range(3)]
    )
    for count in (8, 12):
        seen = masks[:count]
        expected = [outputs[:count][mask].mean(axis=0) - outputs[:count][~mask].mean(axis=0) for mask in seen.T]
        found = np.load(attributed.layout.score_array(count, 12, "empirical_influence"))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    attributed.run(subsets, batch=0)
    evaluated = load_file(attributed.layout.subsets(0))["masks"].astype(bool)
    assert not (evaluated[:, None] == masks[None]).all(axis=2).any()


def test_a_method_with_counts_of_its_own_reads_no_more_than_they_need(attributed):
    expected = {count: np.load(attributed.layout.score_array(count, 3, "tracin")) for count in (1, 2)}
    fitted = np.load(attributed.layout.score_array(8, 12, "empirical_influence"))
    own = ("method.tracin.counts=[1,2]", "method.empirical_influence.counts=[8]")
    attributed.configure(*METHODS, *own)
    Path(attributed.layout.method_part("tracin", 2)).unlink()
    Path(attributed.layout.retrained_outputs(0, 2, "fitting")).unlink()
    for method in ("tracin", "empirical_influence"):
        attributed.run(attribute, method=method)
    for count in (1, 2):
        np.testing.assert_array_equal(np.load(attributed.layout.score_array(count, 2, "tracin")), expected[count])
    np.testing.assert_array_equal(np.load(attributed.layout.score_array(8, 8, "empirical_influence")), fitted)


def test_each_method_has_its_rows_in_the_table(attributed):
    run = retrained(attributed.featurize().solve(), "evaluation", 2, 2)
    run.run(evaluate)
    table = pd.read_csv(run.layout.lds)
    assert table[["method", "checkpoints", "fitted_subsets"]].to_numpy().tolist() == [
        *[["trak", count, 0] for count in (1, 2, 3)],
        *[["tracin", count, 0] for count in (1, 2, 3)],
        *[["empirical_influence", 0, count] for count in (8, 12)],
        ["random", 0, 0],
    ]
    masks = np.concatenate([load_file(run.layout.subsets(batch))["masks"] for batch in range(2)]).astype(bool)
    outputs = np.mean(
        [
            np.concatenate([load_file(run.layout.retrained_outputs(number, batch))["outputs"] for batch in range(2)])
            for number in range(2)
        ],
        axis=0,
    )
    for row in table.itertuples():
        name = {"trak": run.layout.score_array(row.checkpoints, 3), "random": run.layout.score_array(1, 1, "random")}
        path = name.get(row.method) or run.layout.score_array(
            row.checkpoints or row.fitted_subsets, 12 if row.fitted_subsets else 3, row.method
        )
        predicted = masks.astype(float) @ np.load(path).astype(float)
        expected = np.mean([spearmanr(predicted[:, target], outputs[:, target]).statistic for target in range(7)])
        assert row.lds == pytest.approx(expected, abs=1e-9)
    assert table.loc[table["method"] != "trak", ["sketch", "k", "ridge", "featurize_seconds"]].isna().all(axis=None)


def test_provenance_and_top_examples_are_those_of_the_method(attributed):
    scores = np.load(attributed.layout.score_array(12, 12, "empirical_influence"))
    assert read_json(attributed.layout.method_provenance("empirical_influence"))["counts"] == [8, 12]
    table = pd.read_parquet(attributed.layout.method_topk("empirical_influence"))
    best = table[(table["direction"] == "helpful") & (table["rank"] == 1)].sort_values("target")
    np.testing.assert_array_equal(best["train_index"], scores.argmax(axis=0))


def test_parts_made_from_other_data_are_refused(attributed):
    attributed.configure(*METHODS, "data.train_size=59")
    attributed.run(prepare_train)
    with pytest.raises(StoreError, match="was made from other data"):
        attributed.run(attribute, method="tracin")


OUTSIDE = '''
"""A method that trakflow knows nothing of."""
import torch
from trakflow.methods.base import CheckpointMethod, CheckpointsMethod


class Labels(CheckpointMethod):
    def __init__(self, scale):
        self.scale = scale

    def scores(self, trained):
        same = trained.train["labels"][:, None] == trained.targets["labels"][None]
        return self.scale * same.float()


class Biases(CheckpointsMethod):
    """Averages by itself, and not as means of scores do."""

    def __init__(self, scale):
        self.scale = scale

    def scores(self, trained):
        product = torch.stack([list(one.model.parameters())[1].sum() for one in trained]).prod()
        assert len(trained) == len({id(one.model) for one in trained[:]})
        assert [one.number for one in trained] == list(range(len(trained)))
        return self.scale * product * torch.ones(len(trained[0].train["labels"]), len(trained[-1].targets["labels"]))
'''


@pytest.fixture
def outside(experiment, tmp_path):
    """An experiment with a method whose code and configuration lie in the user's own folder."""
    (tmp_path / "own" / "config" / "method").mkdir(parents=True)
    (tmp_path / "own" / "labels_of_mine.py").write_text(OUTSIDE, encoding="utf8")
    for name, reads in (("labels", "checkpoint"), ("biases", "checkpoints")):
        (tmp_path / "own" / "config" / "method" / f"{name}.yaml").write_text(
            f"reads: {reads}\nmake:\n  _target_: labels_of_mine.{name.title()}\n  scale: 2\n", encoding="utf8"
        )
    run = experiment().prepare().train()

    def configure(*overrides):
        small = [f"{key}={value}" for key, value in (("data.train_size", 60), ("data.target_count", 7))]
        settings = [*small, "model.widths=[8]", "checkpoints.count=3", "scores.topk=5", "methods=[trak,labels,biases]"]
        run.config = compose_config("digits", [*settings, *overrides], [tmp_path / "own" / "config"])
        return run

    return configure


def test_a_method_from_outside_the_package_is_a_file_and_a_configuration(outside):
    run = outside("method.labels.make.scale=3")
    for checkpoint in range(3):
        run.run(attribute_checkpoint, method="labels", checkpoint=checkpoint)
    run.run(attribute, method="labels")
    labels = [load_file(path)["labels"] for path in (run.layout.train, run.layout.targets)]
    expected = 3.0 * (labels[0][:, None] == labels[1][None])
    np.testing.assert_array_equal(np.load(run.layout.score_array(3, 3, "labels")), expected)


def test_a_method_that_averages_by_itself_is_given_the_first_checkpoints_for_each_count(outside):
    run = outside("evaluation.checkpoint_counts=[2]")
    with pytest.raises(ConfigError, match=r"job\.count is not set"):
        run.run(attribute_checkpoints, method="biases")
    for count in (2, 3):
        run.run(attribute_checkpoints, method="biases", count=count)
    run.run(attribute, method="biases")
    biases = [load_file(run.layout.checkpoint(number))["layers.1.bias"].sum() for number in range(3)]
    for count in (2, 3):
        found = np.load(run.layout.score_array(count, 3, "biases"))
        assert found.shape == (60, 7)
        np.testing.assert_allclose(found, 2 * np.prod(biases[:count]), rtol=1e-5)
    assert read_json(run.layout.method_provenance("biases"))["counts"] == [2, 3]


def test_a_method_of_another_kind_than_its_configuration_says_is_refused(outside):
    run = outside("method.labels.reads=neither")
    with pytest.raises(ConfigError, match=r"method\.labels reads neither.*PlainMethod, but returned a Labels"):
        run.run(attribute, method="labels")


def test_masks_of_checkpoints_that_a_folder_had_before_are_not_taken(experiment):
    run = experiment().prepare().train()
    assert FirstCheckpoints(run.config, run.layout, 1)[0].mask.sum() == 30
    run.configure("checkpoints.count=null", f"checkpoints.files=['{run.layout.checkpoint(0)}']")
    assert FirstCheckpoints(run.config, run.layout, 1)[0].mask is None
