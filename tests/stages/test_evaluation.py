"""The stages from subsets to the table of linear datamodeling scores and the figures."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from trakflow.errors import DataError, StoreError
from trakflow.models.mlp import MLP
from trakflow.stages.evaluate import evaluate, evaluation_data, subsets
from trakflow.stages.figures import (
    draw_gallery,
    draw_lds_vs_checkpoints,
    draw_predicted_vs_actual,
    draw_self_lds,
)
from trakflow.stages.retrain import retrain, retrained_outputs
from trakflow.store.array_file import ArrayFile, write_arrays

DRAW = (draw_gallery, draw_lds_vs_checkpoints, draw_predicted_vs_actual, draw_self_lds)


def retrained(run):
    # Six subsets in batches of four.
    for batch in range(2):
        run.run(subsets, batch=batch)
        for number in range(2):
            run.run(retrain, batch=batch, retrain=number)
            run.run(retrained_outputs, batch=batch, retrain=number)
    return run


@pytest.fixture
def finished(experiment):
    run = retrained(experiment().prepare().train().featurize().solve())
    run.run(evaluate)
    return run


def test_the_table_is_the_rank_correlation_of_sums_of_scores_with_retrained_outputs(finished):
    masks = np.concatenate([load_file(finished.layout.subsets(batch))["masks"] for batch in range(2)])
    targets = load_file(finished.layout.targets)
    outputs = np.zeros((2, 6, 7))
    for number in range(2):
        for subset in range(6):
            state = load_file(finished.layout.retrained(number, subset // 4))
            model = MLP(64, [8], 10)
            model.load_state_dict({name: torch.from_numpy(value[subset % 4]) for name, value in state.items()})
            p = torch.softmax(model(torch.from_numpy(targets["inputs"])).double(), dim=1).detach().numpy()
            p = p[np.arange(7), targets["labels"]]
            outputs[number, subset] = np.log(p / (1 - p))
    table = pd.read_csv(finished.layout.lds)
    assert table["checkpoints"].tolist() == [1, 2, 3]
    for _, row in table.iterrows():
        scores = np.load(finished.layout.score_array(row["checkpoints"], 3))
        predicted = np.stack([scores[mask].sum(axis=0) for mask in masks])
        actual = outputs.mean(axis=0)
        expected = np.mean([spearmanr(predicted[:, target], actual[:, target]).statistic for target in range(7)])
        assert row["lds"] == pytest.approx(expected, abs=1e-9)
        assert row["ci_low"] <= row["ci_high"]
    r = np.mean([spearmanr(outputs[0, :, target], outputs[1, :, target]).statistic for target in range(7)])
    assert table["ceiling"].tolist() == pytest.approx([np.sqrt(2 * max(r, 0) / (1 + max(r, 0)))] * 3, nan_ok=True)
    assert (table[["subsets", "retrains", "k"]] == [6, 2, 16]).all(axis=None)


def test_retrains_of_a_subset_differ_and_subsets_are_not_those_of_the_checkpoints(finished):
    weights = [load_file(finished.layout.retrained(number, 0))["layers.1.weight"] for number in range(2)]
    assert not np.isclose(weights[0], weights[1]).all(axis=(1, 2)).any()
    masks = load_file(finished.layout.subsets(0))["masks"]
    for number in range(3):
        assert not (masks == np.load(finished.layout.checkpoint_mask(number))).all(axis=1).any()


def test_more_subsets_leave_the_first_ones_and_their_models_alone(experiment, finished):
    more = experiment("evaluation.subsets=8", name="more").prepare()
    more.run(subsets, batch=0)
    more.run(retrain, batch=0, retrain=1)
    for path in ("subsets", "models"):
        name = f"evaluation/{path}/" + ("0.safetensors" if path == "subsets" else "1/0.safetensors")
        left, right = (load_file(f"{run.layout.root}/{name}") for run in (more, finished))
        assert all(np.array_equal(left[key], right[key]) for key in right)


def test_models_retrained_one_by_one_give_the_same_outputs(experiment, finished):
    alone = retrained(experiment("training.ensemble=false", name="alone").prepare())
    for number in range(2):
        for batch in range(2):
            left, right = (
                load_file(run.layout.retrained_outputs(number, batch))["outputs"] for run in (alone, finished)
            )
            np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)


def test_outputs_on_other_subsets_are_refused(finished):
    finished.configure("seed=4").run(subsets, batch=1)
    with pytest.raises(StoreError, match=r"outputs/0/1\.safetensors was made on other subsets than .*subsets/1"):
        finished.run(evaluate)


def test_own_masks_and_outputs_give_the_table_that_ours_give(finished, tmp_path):
    masks, outputs = evaluation_data(finished.config, finished.layout)
    ours = pd.read_csv(finished.layout.lds)
    np.save(tmp_path / "masks.npy", masks.astype(np.uint8))
    np.save(tmp_path / "outputs.npy", outputs)
    own = (
        "evaluation=files",
        f"evaluation.masks='{tmp_path}/masks.npy'",
        f"evaluation.outputs='{tmp_path}/outputs.npy'",
    )
    finished.configure(*own, "evaluation.bootstrap=100", "evaluation.checkpoint_counts=[1,2]").run(evaluate)
    pd.testing.assert_frame_equal(pd.read_csv(finished.layout.lds), ours)
    np.save(tmp_path / "outputs.npy", outputs[0].astype(np.float64))
    finished.run(evaluate)
    single = pd.read_csv(finished.layout.lds)
    assert (single["retrains"] == 1).all()
    assert single["ceiling"].isna().all()
    np.save(tmp_path / "outputs.npy", outputs[:, :, :3])
    with pytest.raises(DataError, match="7 targets"):
        finished.run(evaluate)


def test_every_figure_is_written_in_three_forms_and_equal_runs_give_equal_bytes(finished):
    names = ("gallery", "lds_vs_checkpoints", "predicted_vs_actual", "self_lds")
    written = []
    finished.configure("figures.dpi=50", "figures.gallery_targets=2", "figures.gallery_examples=2")
    for _ in range(2):
        for draw in DRAW:
            finished.run(draw)
        paths = [finished.layout.figure(name, suffix) for name in names for suffix in ("svg", "png", "csv")]
        assert all(os.path.getsize(path) > 20 for path in paths)
        written.append([Path(path).read_bytes() for path in paths])
    assert written[0] == written[1]
    shown = pd.read_csv(finished.layout.figure("predicted_vs_actual", "csv"))
    assert shown["subset"].tolist() == list(range(6))
    masks, outputs = evaluation_data(finished.config, finished.layout)
    np.testing.assert_allclose(shown["actual"], outputs[:, :, 0].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(shown["predicted"], masks @ finished.scores()[:, 0].astype(np.float64), rtol=1e-9)


@pytest.mark.parametrize("texts", [True, False])
def test_a_gallery_of_inputs_by_another_name_shows_texts_or_ids(finished, texts):
    for path in (finished.layout.targets, finished.layout.train):
        file = ArrayFile(path)
        arrays = {"input_ids" if name == "inputs" else name: file.read(name) for name in file.names}
        if texts:
            arrays["texts"] = np.tile(np.frombuffer(b"word", np.uint8), (len(arrays["ids"]), 1))
        write_arrays(path, arrays, file.provenance)
    finished.run(draw_gallery)
    drawn = Path(finished.layout.figure("gallery", "svg")).read_text(encoding="utf8")
    shown = pd.read_csv(finished.layout.figure("gallery", "csv"))["train_id"].astype(str)
    assert ("word" in drawn) == texts
    assert all(f"<!-- {identity} -->" in drawn for identity in shown) != texts


def test_without_a_self_lds_the_figure_says_why(experiment):
    run = experiment("solver.ridge=0.5", "evaluation=none").prepare().train().featurize().solve()
    run.run(draw_self_lds)
    assert "the ridge was given, 0.5 (relative)" in Path(run.layout.figure("self_lds", "svg")).read_text()
