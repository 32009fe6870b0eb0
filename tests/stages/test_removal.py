"""Removal of the examples that methods rank highest, from scores to the table and the figure."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from conftest import Experiment
from trakflow.errors import ConfigError, DataError, StoreError
from trakflow.seeds import derive_seed
from trakflow.stages.common import make_task, model_factory
from trakflow.stages.figures import draw_removal
from trakflow.stages.methods import attribute
from trakflow.stages.removal import evaluate_removal, remove
from trakflow.stages.retrain_removed import MODELS_ON_ALL, retrain_on_all, retrain_without
from trakflow.training.sgd import train_model

REMOVAL = (
    "removal.counts=[4,1]",
    "removal.targets=3",
    "removal.retrains=2",
    "evaluation.models_per_batch=2",
    "methods=[trak,external]",
    "training.batch_size=8",
    "training.epochs=10",
)
TARGETS = 3


def removed(run):
    for number in range(2):
        run.run(retrain_on_all, retrain=number)
    for method in run.config.removal_methods:
        for count in run.config.removal.counts:
            # Three targets in batches of two.
            for batch in range(2):
                run.run(remove, method=method, count=count, batch=batch)
                for number in range(2):
                    run.run(retrain_without, method=method, count=count, batch=batch, retrain=number)
    return run


def made(folder, path):
    """An experiment with scores of a file for a method, and the same negated as TRAK's."""
    run = Experiment(folder / "results", *REMOVAL, f"method.external.make.path={path}").prepare()
    labels = [load_file(path)["labels"] for path in (run.layout.train, run.layout.targets)]
    # Examples of the target's own label, and the rest in a random order.
    noise = np.random.default_rng(0).random((60, 7))
    scores = (labels[0][:, None] == labels[1][None]) + noise.astype(np.float32)
    np.save(path, scores)
    run.run(attribute, method="external")
    Path(run.layout.score_array(3, 3)).parent.mkdir(exist_ok=True)
    np.save(run.layout.score_array(3, 3), -scores)
    return run


@pytest.fixture
def scored(tmp_path):
    return made(tmp_path, tmp_path / "scores.npy")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A finished one; not to be written to."""
    folder = tmp_path_factory.mktemp("evaluated")
    run = removed(made(folder, folder / "scores.npy"))
    run.run(evaluate_removal)
    run.run(draw_removal)
    return run


def masks_of(run, method, count):
    files = [load_file(run.layout.removed(method, count, batch)) for batch in range(2)]
    return tuple(np.concatenate([file[name] for file in files]) for name in ("masks", "targets"))


def test_the_table_is_that_of_models_trained_one_by_one_without_the_highest_scores(evaluated):
    run = evaluated
    data, asked = (load_file(path) for path in (run.layout.train, run.layout.targets))
    arrays = {name: torch.from_numpy(data[name]) for name in ("inputs", "labels")}
    scores = np.load(run.layout.score_array(1, 1, "external"))
    task, factory = make_task(run.config), model_factory(run.config)

    def trained(chosen, number, row):
        seed = derive_seed(run.config.seed, "retrain for removal", number, row)
        return train_model(factory, task, arrays, chosen, run.config.training, seed)

    def said(model, target):
        with torch.no_grad():
            logits = model(torch.from_numpy(asked["inputs"][target : target + 1])).double()[0].numpy()
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        own = p[asked["labels"][target]]
        return np.log(own / (1 - own)), logits.argmax() != asked["labels"][target]

    on_all = [trained(np.arange(60), number, row) for number in range(2) for row in range(MODELS_ON_ALL)]
    targets = masks_of(run, "external", 4)[1]
    table = pd.read_csv(run.layout.removal).set_index(["method", "removed"])
    before = np.array([[said(model, target) for model in on_all] for target in targets])
    assert (before[:, :MODELS_ON_ALL, 1].mean(axis=1) < 0.5).all()
    for method in ("external", "trak", "random"):
        assert table.loc[(method, 0), "flipped"] == pytest.approx(before[:, :, 1].mean())
        assert table.loc[(method, 0), "output_change"] == 0
    for count in (1, 4):
        after = []
        for row, target in enumerate(targets):
            kept = np.flatnonzero(scores[:, target] < np.sort(scores[:, target])[-count])
            assert len(kept) == 60 - count
            after.append([said(trained(kept, number, row), target) for number in range(2)])
        after = np.array(after)
        found = table.loc[("external", count)]
        assert found["flipped"] == pytest.approx(after[:, :, 1].mean())
        change = after[:, :, 0].mean(axis=1) - before[:, :, 0].mean(axis=1)
        assert found["output_change"] == pytest.approx(change.mean(), abs=1e-3)
        assert found["ci_low"] <= found["flipped"] <= found["ci_high"]
        assert change.min() - 1e-3 <= found["output_change_ci_low"] <= found["output_change_ci_high"]
    assert (table[["targets", "retrains"]] == [TARGETS, 2]).all(axis=None)
    assert list(table.index) == [(method, count) for method in ("trak", "external", "random") for count in (0, 1, 4)]


def test_without_a_random_method_random_examples_are_removed(scored):
    run = scored
    run.run(retrain_on_all, retrain=0)
    for batch in range(2):
        run.run(remove, method="random", count=4, batch=batch)
        run.run(remove, method="external", count=4, batch=batch)
    masks, targets = masks_of(run, "random", 4)
    assert ((~masks).sum(axis=1) == 4).all()
    assert len({mask.tobytes() for mask in masks}) == TARGETS
    np.testing.assert_array_equal(targets, masks_of(run, "external", 4)[1])


def test_more_targets_and_counts_leave_what_was_made_as_it_is(scored):
    run = scored
    run.run(retrain_on_all, retrain=0)
    for batch in range(2):
        run.run(remove, method="external", count=4, batch=batch)
    masks, targets = masks_of(run, "external", 4)
    run.configure(*REMOVAL, "method.external.make.path=unread.npy", "removal.targets=4", "removal.counts=[4,9]")
    for batch in range(2):
        run.run(remove, method="external", count=4, batch=batch)
    more = masks_of(run, "external", 4)
    np.testing.assert_array_equal(more[0][:TARGETS], masks)
    np.testing.assert_array_equal(more[1][:TARGETS], targets)
    assert len(more[1]) == 4


def test_outputs_of_other_masks_and_models_of_other_data_are_refused(evaluated, tmp_path):
    shutil.copytree(evaluated.layout.root, tmp_path / "copy")
    path = "method.external.make.path=unread.npy"
    run = Experiment(tmp_path / "copy", *REMOVAL, path)
    np.save(run.layout.score_array(3, 3), np.load(run.layout.score_array(1, 1, "external")))
    run.run(remove, method="trak", count=1, batch=1)
    with pytest.raises(StoreError, match=r"trak/1/outputs/0/1\.safetensors was made without other examples than"):
        run.run(evaluate_removal)
    run.configure(*REMOVAL, "data.train_size=59", path).prepare()
    with pytest.raises(StoreError, match=r"everything/0\.safetensors was made from other data"):
        run.run(remove, method="trak", count=1, batch=1)


def test_targets_without_a_label_each_are_refused_before_anything_is_trained(experiment):
    run = experiment(base="diabetes", small=("data.train_size=20", "data.target_count=4", "scores.topk=5")).prepare()
    with pytest.raises(DataError, match=r"one label each; set removal\.counts=\[\]"):
        run.run(retrain_on_all, retrain=0)


def test_a_method_that_is_not_removed_by_is_refused(scored):
    with pytest.raises(ConfigError, match=r"job\.method=gas is none of \['trak', 'external', 'random'\]"):
        scored.run(remove, method="gas", count=1, batch=0)


def test_the_figure_is_written_with_its_table(evaluated):
    for suffix in ("svg", "png"):
        assert Path(evaluated.layout.figure("removal", suffix)).stat().st_size > 1000
    shown, table = (pd.read_csv(path) for path in (evaluated.layout.figure("removal", "csv"), evaluated.layout.removal))
    pd.testing.assert_frame_equal(shown, table)
