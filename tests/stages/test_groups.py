"""`scores.groups` through the stages."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from trakflow import group_scores, scoring
from trakflow.errors import DataError
from trakflow.stages import attribute
from trakflow.stages.attribute import score
from trakflow.stages.figures import draw_top_groups
from trakflow.stages.prepare import prepare_train

SOLVED = ("solver.ridge=1", "evaluation=none")


def by_class(run):
    scores, labels = run.scores().astype(np.float64), load_file(run.layout.train)["labels"]
    return np.stack([scores[labels == label].sum(axis=0) for label in np.unique(labels)])


def test_scores_of_classes_are_sums_of_dense_scores(experiment):
    run = experiment(*SOLVED, "scores.groups=labels").prepare().train().featurize().solve()
    found = np.load(run.layout.group_scores)
    np.testing.assert_allclose(found, by_class(run), rtol=3e-7, atol=1e-9)
    table = pd.read_parquet(run.layout.group_table)
    assert table["name"].tolist() == [f"label {label}" for label in range(10)]
    assert table["size"].sum() == 60
    np.testing.assert_allclose(found.sum(axis=0), run.scores().sum(axis=0), rtol=1e-4, atol=1e-6)


def test_they_need_no_dense_scores_and_little_memory(experiment, monkeypatch):
    run = experiment(*SOLVED, "scores.groups=labels").prepare().train().featurize().solve()
    expected, table = np.load(run.layout.group_scores), pd.read_parquet(run.layout.group_topk)
    widths = []

    class Watched(group_scores.GroupSums):
        def add(self, first_row, first_target, scores):
            widths.append(scores.shape[1])
            super().add(first_row, first_target, scores)

    monkeypatch.setattr(group_scores, "GroupSums", Watched)
    # Room for the sums of two targets.
    monkeypatch.setattr(attribute, "columns_within", lambda groups, _: group_scores.columns_within(groups, 16 * 10))
    monkeypatch.setattr(scoring, "_row_ranges", lambda n, *_: [(row, min(row + 7, n)) for row in range(0, n, 7)])
    run.configure(*SOLVED, "scores.groups=labels", "scores.dense=false")
    run.run(score)
    assert set(widths) == {1, 2}
    assert not Path(run.layout.score_array(3, 3)).exists()
    np.testing.assert_allclose(np.load(run.layout.group_scores), expected, rtol=1e-5, atol=1e-6)
    found = pd.read_parquet(run.layout.group_topk)
    pd.testing.assert_frame_equal(found, table, rtol=1e-5, atol=1e-6)


def test_groups_that_are_left_out_leave_no_old_ones(experiment):
    run = experiment(*SOLVED, "scores.groups=labels").prepare().train().featurize().solve()
    paths = [Path(path) for path in (run.layout.group_scores, run.layout.group_table, run.layout.group_topk)]
    assert all(path.is_file() for path in paths)
    run.configure(*SOLVED).run(score)
    assert not any(path.exists() for path in paths)


def test_smaller_numbers_of_checkpoints_write_none(experiment):
    run = experiment("scores.groups=labels").prepare().train().featurize().solve()
    written = Path(run.layout.group_scores).stat().st_mtime_ns
    run.run(score, count=1)
    assert Path(run.layout.group_scores).stat().st_mtime_ns == written


def test_data_without_groups_are_refused_before_anything_is_computed(experiment):
    run = experiment("scores.groups=own")
    with pytest.raises(DataError, match=r"scores\.groups=own, but the training examples have no groups"):
        run.run(prepare_train)
    assert not Path(run.layout.train).exists()


def test_data_prepared_without_groups_are_refused_when_groups_are_asked_for_later(experiment):
    run = experiment(*SOLVED).prepare().train().featurize().solve()
    with pytest.raises(DataError, match=r"scores\.groups=own, but the training examples have no groups"):
        run.configure(*SOLVED, "scores.groups=own").run(score)


def test_the_figure_shows_the_best_groups_of_the_gallery_targets(experiment):
    run = experiment(*SOLVED, "scores.groups=labels", "figures.gallery_targets=3", "figures.gallery_examples=2")
    run.prepare().train().featurize().solve().run(draw_top_groups)
    table = pd.read_csv(run.layout.figure("top_groups", "csv"))
    assert table["target"].unique().tolist() == [0, 3, 6]
    sums = np.load(run.layout.group_scores)
    for target, rows in table.groupby("target"):
        order = np.argsort(-sums[:, target])
        assert rows["group"].tolist() == order[[0, 1, -2, -1]].tolist()
        np.testing.assert_allclose(rows["score"], sums[rows["group"], target], rtol=1e-6)
    assert Path(run.layout.figure("top_groups", "svg")).stat().st_size > 1000
