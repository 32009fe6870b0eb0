"""The stages from the data to the scores, called as the rules call them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from trakflow.errors import DataError, NumericalError, StoreError
from trakflow.models.mlp import MLP
from trakflow.stages.attribute import choose_ridge, finalize, load_parts, score, score_partial
from trakflow.stages.checkpoints import import_checkpoint, train_checkpoint
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.store.files import read_json


def test_the_same_settings_give_the_same_bytes_in_every_file(experiment, tmp_path):
    for name in ("first", "second"):
        experiment(name=name).prepare().train().featurize().solve()
    first, second = (
        {path.relative_to(tmp_path / name): path for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("first", "second")
    )
    assert first.keys() == second.keys()
    # Features carry how long they took.
    timed = {path for path in first if path.parts[0] == "features"}
    assert len(timed) == 6
    for path in first:
        if path in timed:
            left, right = load_file(first[path]), load_file(second[path])
            assert all(left[name].tobytes() == right[name].tobytes() for name in left)
        else:
            assert first[path].read_bytes() == second[path].read_bytes(), path


def test_halves_checkpoints_are_trained_on_half_and_know_which(experiment):
    run = experiment().prepare().train()
    masks = np.stack([np.load(run.layout.checkpoint_mask(number)) for number in range(3)])
    assert masks.dtype == bool
    assert masks.sum(axis=1).tolist() == [30, 30, 30]
    assert len({mask.tobytes() for mask in masks}) == 3
    everything = experiment("checkpoints.trained_on=everything", name="everything").prepare().train()
    assert all(np.load(everything.layout.checkpoint_mask(number)).all() for number in range(3))


def test_a_given_ridge_is_taken_as_it_is(experiment):
    run = experiment("solver.ridge=0.25", "solver.ridge_unit=absolute", "evaluation=none").prepare().train()
    run.featurize().solve()
    assert read_json(run.layout.ridge(3)) == {"rule": "given", "value": 0.25, "unit": "absolute", "checkpoints": 3}
    assert [entry["ridge"] for entry in read_json(run.layout.score_provenance)["checkpoints"]] == [0.25] * 3


def test_an_automatic_ridge_is_the_best_of_the_self_lds_curve(experiment):
    run = experiment("solver.ridge_grid.points=7").prepare().train().featurize().solve()
    found = read_json(run.layout.ridge(3))
    grid = found["curve"]["ridge"]
    np.testing.assert_allclose(grid, 10.0 ** np.arange(-3, 4), rtol=1e-12)
    curve = np.array(found["curve"]["self_lds"])
    best = int(np.argmax(curve - 0.05 * np.arange(-3, 4) ** 2 / 3))
    assert (found["rule"], found["value"], found["unit"]) == ("self-LDS", grid[best], "relative")
    assert found["self_lds"] == curve[best]
    assert found["at_edge_of_grid"] == (best in (0, 6))


@pytest.mark.parametrize("overrides", [("checkpoints.count=1",), ("checkpoints.trained_on=everything",)])
def test_without_other_halves_the_ridge_is_the_mean_diagonal(experiment, overrides):
    run = experiment("evaluation=none", *overrides).prepare().train().featurize().solve()
    found = read_json(run.layout.ridge(run.config.checkpoints.total))
    assert (found["rule"], found["value"], found["unit"]) == ("mean diagonal of the Gram matrix", 1.0, "relative")


def test_provenance_states_what_the_scores_were_made_with(experiment):
    run = experiment("solver.ridge=2", "seed=5").prepare().train().featurize().solve()
    found = read_json(run.layout.score_provenance)
    assert found["seed"] == found["config"]["seed"] == 5
    assert found["config"]["sketch"]["k"] == 16
    assert {"python", "torch", "numpy", "trakflow"} <= found["versions"].keys()
    for number, entry in enumerate(found["checkpoints"]):
        features = np.concatenate([load_file(run.layout.features(number, shard))["features"] for shard in range(2)])
        w = np.concatenate([load_file(run.layout.features(number, shard))["curvatures"] for shard in range(2)])
        diagonal = (w[:, None].astype(np.float64) * features.astype(np.float64) ** 2).sum() / 16
        assert entry["gram_mean_diagonal"] == pytest.approx(diagonal)
        assert entry["ridge"] == pytest.approx(2 * diagonal)
    assert json.loads(json.dumps(found)) == found


def test_the_top_table_agrees_with_the_dense_scores(experiment):
    run = experiment().prepare().train().featurize().solve()
    scores, table = run.scores(), pd.read_parquet(run.layout.score_topk)
    assert len(table) == 7 * 2 * 5
    for _, row in table.iterrows():
        assert row["score"] == scores[row["train_index"], row["target"]]
        column = np.sort(scores[:, row["target"]])
        assert row["score"] == (column[::-1] if row["direction"] == "helpful" else column)[row["rank"] - 1]


def test_scores_without_a_dense_array_have_the_same_top_table(experiment):
    dense = experiment("evaluation=none", name="dense").prepare().train().featurize().solve()
    sparse = experiment("evaluation=none", "scores.dense=false", name="sparse").prepare().train().featurize().solve()
    pd.testing.assert_frame_equal(*(pd.read_parquet(run.layout.score_topk) for run in (dense, sparse)))
    with pytest.raises(FileNotFoundError):
        sparse.scores()


def test_a_kernel_of_other_features_is_refused(experiment):
    run = experiment("solver.ridge=1").prepare().train().featurize().solve()
    run.configure("solver.ridge=1", "sketch.k=7").featurize()
    with pytest.raises(
        StoreError, match=r"kernels/0\.safetensors was made from other features than those in .*features/0"
    ):
        run.run(score, count=3)


def test_target_features_of_another_checkpoint_are_refused(experiment):
    run = experiment("solver.ridge=1").prepare().train().featurize().solve()
    run.configure("solver.ridge=1", "seed=9").train()
    for shard in range(2):
        run.run(featurize, checkpoint=0, shard=shard)
    run.run(finalize, checkpoint=0)
    with pytest.raises(
        StoreError, match=r"target_features/0\.safetensors and .*features/0/0\.safetensors do not belong together"
    ):
        load_parts(run.config, run.layout, 0, (1.0, "relative"))
    run.run(featurize_targets, checkpoint=0)
    load_parts(run.config, run.layout, 0, (1.0, "relative"))


def test_shards_of_two_checkpoints_are_refused_by_naming_both(experiment):
    run = experiment().prepare().train().featurize()
    run.configure("seed=9")
    run.run(train_checkpoint, checkpoint=0)
    run.run(featurize, checkpoint=0, shard=1)
    with pytest.raises(
        StoreError, match=r"features/0/1\.safetensors and .*features/0/0\.safetensors do not belong together"
    ):
        run.run(finalize, checkpoint=0)


@pytest.mark.parametrize("array", ["features", "loss_gradients"])
def test_a_damaged_feature_file_stops_the_stage_that_reads_it(experiment, array):
    run = experiment("solver.ridge=1").prepare().train().featurize().solve()
    path = Path(run.layout.features(1, 0))
    for old in Path(run.layout.root, "scores").rglob("*.*"):
        old.unlink()
    whole, values = bytearray(path.read_bytes()), load_file(path)[array].tobytes()
    whole[whole.index(values) + len(values) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StoreError, match=rf"features/1/0\.safetensors: .* of '{array}' .*checksum"):
        run.run(score, count=3)
    assert not any(path.is_file() for path in Path(run.layout.root, "scores").rglob("*"))


def test_no_ridge_where_the_features_are_dependent_is_refused_with_the_rank(experiment, tmp_path):
    # No hidden unit is ever active, so that of all gradients only those of the ten biases of the output are not zero.
    state = MLP(64, [8], 10).state_dict()
    state["layers.1.weight"].zero_()
    state["layers.1.bias"].fill_(-1)
    torch.save(state, tmp_path / "dead.pt")
    own = ("checkpoints.count=null", f"checkpoints.files=['{tmp_path}/dead.pt']")
    run = experiment(*own, "sketch=gaussian", "sketch.k=20", "solver=paper", "evaluation=none").prepare()
    run.run(import_checkpoint, checkpoint=0)
    run.featurize()
    with pytest.raises(NumericalError, match=r"it has rank \d of 20.*solver\.ridge"):
        run.solve()


def test_the_identity_sketch_without_ridge_and_more_parameters_than_examples_is_refused(experiment):
    run = (
        experiment("sketch=identity", "sketch.k=null", "solver=paper", "evaluation=none").prepare().train().featurize()
    )
    with pytest.raises(NumericalError, match=r"k is larger than n.*solver\.ridge"):
        run.solve()


def test_target_features_of_another_seed_are_refused(experiment):
    run = experiment().prepare().train().featurize().solve()
    run.configure("seed=1")
    run.run(featurize_targets, checkpoint=1)
    run.configure()
    with pytest.raises(StoreError, match="do not belong together: 'gradients'"):
        run.run(choose_ridge, count=3)


def test_a_kernel_of_other_weights_is_refused(experiment):
    run = experiment().prepare().train().featurize().solve()
    run.configure("solver.weights=off")
    with pytest.raises(StoreError, match=r"was made with solver\.weights=on, and off is set"):
        run.run(choose_ridge, count=3)


def test_checkpoints_that_saw_the_same_examples_do_not_choose_a_ridge(experiment):
    run = experiment().prepare().train().featurize()
    for number in range(3):
        np.save(run.layout.checkpoint_mask(number), np.ones(60, dtype=bool))
    with pytest.raises(DataError, match=r"same examples.*solver\.ridge"):
        run.run(choose_ridge, count=3)


def test_the_first_checkpoints_of_one_run_have_the_default_ridge_until_another_run_follows(experiment):
    run = experiment().prepare().train().featurize().solve()
    np.save(run.layout.checkpoint_mask(1), np.load(run.layout.checkpoint_mask(0)))
    for count, rule in ((1, "mean diagonal"), (2, "mean diagonal"), (3, "self-LDS")):
        run.run(choose_ridge, count=count)
        assert read_json(run.layout.ridge(count))["rule"].startswith(rule)


@pytest.mark.parametrize("k", [16, 70])
def test_partial_gram_matrices_are_all_that_finalize_reads(experiment, k):
    run = experiment(f"sketch.k={k}", "shards=3").prepare().train().featurize()
    paths = [Path(run.layout.features(0, shard)) for shard in range(3)]
    whole = [path.read_bytes() for path in paths]
    run.run(finalize, checkpoint=0)
    kernel = Path(run.layout.kernel(0)).read_bytes()
    for path, before in zip(paths, whole, strict=True):
        values = load_file(path)["features"].tobytes()
        path.write_bytes(before.replace(values, bytes(len(values))))
    if k == 16:  # twenty rows a shard
        run.run(finalize, checkpoint=0)
        assert Path(run.layout.kernel(0)).read_bytes() == kernel
    else:
        with pytest.raises(StoreError, match=r"of 'features' .*checksum"):
            run.run(finalize, checkpoint=0)


def test_only_a_shard_without_a_gram_matrix_of_these_weights_is_read(experiment):
    run = experiment("shards=3").prepare().train().featurize()
    run.run(finalize, checkpoint=0)
    expected = load_file(run.layout.kernel(0))["eigenvalues"]
    run.configure("shards=3", "solver.weights=off").run(featurize, checkpoint=0, shard=1)
    run.configure("shards=3")
    path = Path(run.layout.features(0, 0))
    values = load_file(path)["features"].tobytes()
    path.write_bytes(path.read_bytes().replace(values, bytes(len(values))))
    run.run(finalize, checkpoint=0)
    np.testing.assert_allclose(load_file(run.layout.kernel(0))["eigenvalues"], expected, rtol=1e-10)
    path = Path(run.layout.features(0, 1))
    values = load_file(path)["features"].tobytes()
    path.write_bytes(path.read_bytes().replace(values, bytes(len(values))))
    with pytest.raises(StoreError, match=r"features/0/1\.safetensors: .*of 'features' .*checksum"):
        run.run(finalize, checkpoint=0)


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_scores_on_disk_do_not_depend_on_the_memory(experiment, monkeypatch, rows):
    from trakflow import scoring

    run = experiment("solver.ridge=1", "evaluation=none").prepare().train().featurize().solve()
    scores, table = run.scores(), pd.read_parquet(run.layout.score_topk)
    monkeypatch.setattr(scoring, "_columns", lambda *_: 3)
    monkeypatch.setattr(scoring, "_row_ranges", lambda n, *_: [(r, min(r + rows, n)) for r in range(0, n, rows)])
    run.run(score)
    np.testing.assert_allclose(run.scores(), scores, rtol=1e-5, atol=1e-5 * np.abs(scores).max())
    pd.testing.assert_frame_equal(pd.read_parquet(run.layout.score_topk), table)


def test_scores_that_are_left_out_leave_no_old_ones(experiment):
    run = experiment("evaluation=none").prepare().train().featurize().solve()
    assert Path(run.layout.score_array(3, 3)).is_file()
    run.configure("evaluation=none", "scores.dense=false")
    run.run(score)
    assert not Path(run.layout.score_array(3, 3)).exists()


def test_the_job_of_all_smaller_numbers_of_checkpoints_writes_what_a_job_each_would(experiment):
    run = experiment().prepare().train().featurize().solve()
    assert run.config.partial_counts == [1, 2]
    paths = [Path(path) for count in (1, 2) for path in (run.layout.ridge(count), run.layout.score_array(count, 3))]
    published = [Path(path) for path in (run.layout.ridge(3), run.layout.score_array(3, 3), run.layout.score_topk)]
    expected = [path.read_bytes() for path in paths]
    assert len(set(expected)) == len(paths)
    for path in (*paths, *published):
        path.unlink()
    run.run(score_partial)
    assert [path.read_bytes() for path in paths] == expected
    # Those of all checkpoints are for jobs of their own.
    assert not any(path.exists() for path in published)
