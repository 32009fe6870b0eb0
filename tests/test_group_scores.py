"""Scores of groups against sums by numpy in float64."""

import numpy as np
import pandas as pd
import pytest

from trakflow.data.examples import Examples, write_examples
from trakflow.data.groups import groups_by_label, groups_by_name, groups_of_examples, read_groups
from trakflow.errors import DataError
from trakflow.group_scores import columns_within, group_scores_file
from trakflow.layout import Layout
from trakflow.store.array_file import ArrayFile

N, M, GROUPS = 57, 9, 6


@pytest.fixture
def layout(tmp_path):
    layout = Layout(str(tmp_path))
    arrays = {"inputs": np.zeros((M, 2), np.float32), "attributed_labels": np.arange(M) % 3}
    write_examples(layout.targets, Examples(arrays, [f"t{target}" for target in range(M)]), {})
    return layout


def problem(seed=0):
    """Names of each example's group, each of GROUPS names at least once, and scores of widely different size."""
    random = np.random.default_rng(seed)
    names = np.concatenate([np.arange(GROUPS), random.integers(0, GROUPS, N - GROUPS)])
    random.shuffle(names)
    scores = random.standard_normal((N, M)) * 10.0 ** random.integers(-3, 4, (N, 1))
    return [f"speech {name}" for name in names], scores.astype(np.float32)


def write(layout, groups, scores, rows=N, width=M, count=3):
    with group_scores_file(groups, layout, M, count) as add:
        for target in range(0, M, width):
            for row in range(0, N, rows):
                add(row, target, np.ascontiguousarray(scores[row : row + rows, target : target + width]))
    return np.load(layout.group_scores)


def expected_sums(names, order, scores):
    return np.stack([scores[np.array(names) == name].astype(np.float64).sum(axis=0) for name in order])


@pytest.mark.parametrize(("rows", "width"), [(N, M), (1, M), (7, 4), (20, 1)])
def test_the_score_of_a_group_is_the_sum_of_its_examples_whatever_the_blocks(layout, rows, width):
    names, scores = problem()
    groups = groups_by_name(names)
    found = write(layout, groups, scores, rows, width)
    assert found.dtype == np.float32
    expected = expected_sums(names, groups.names, scores)
    # Sums in float64, rounded once; the order of addition is within the slack.
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=2e-7, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=0, dtype=np.float64), scores.sum(axis=0, dtype=np.float64), rtol=1e-5)


def test_the_tables_name_groups_sizes_and_the_best_of_each_target(layout):
    names, scores = problem(1)
    groups = groups_by_name(names)
    sums = write(layout, groups, scores)
    table = pd.read_parquet(layout.group_table)
    assert table["name"].tolist() == list(dict.fromkeys(names))
    assert table["size"].tolist() == [names.count(name) for name in table["name"]]
    best = pd.read_parquet(layout.group_topk)
    columns = "target target_id direction rank group name size score attributed_label"
    assert list(best.columns) == columns.split()
    assert len(best) == M * 2 * 3
    for target in range(M):
        for direction, order in (("helpful", np.argsort(-sums[:, target])), ("harmful", np.argsort(sums[:, target]))):
            rows = best[(best["target"] == target) & (best["direction"] == direction)]
            assert rows["rank"].tolist() == [1, 2, 3]
            assert rows["group"].tolist() == order[:3].tolist()
            assert rows["score"].tolist() == sums[order[:3], target].tolist()
            assert rows["name"].tolist() == table["name"][order[:3]].tolist()
            assert rows["size"].tolist() == table["size"][order[:3]].tolist()
            assert set(rows["target_id"]) == {f"t{target}"}
            assert set(rows["attributed_label"]) == {target % 3}


def test_no_more_groups_are_listed_than_there_are(layout):
    names, scores = problem()
    write(layout, groups_by_name(names), scores, count=50)
    best = pd.read_parquet(layout.group_topk)
    assert best.groupby(["target", "direction"]).size().unique().tolist() == [GROUPS]


def test_names_come_in_the_order_in_which_they_appear_and_classes_ascending():
    groups = groups_by_name(["b", "a", "b", "c", "a"])
    assert groups.names == ["b", "a", "c"]
    assert groups.members.tolist() == [0, 1, 0, 2, 1]
    assert groups.sizes.tolist() == [2, 2, 1]
    classes = groups_by_label(np.array([7, 0, 7, 3]), None)
    assert classes.names == ["label 0", "label 3", "label 7"]
    assert classes.members.tolist() == [2, 0, 2, 1]
    assert groups_by_label(np.array([1, 0]), ["cat", "dog"]).names == ["cat", "dog"]


def test_groups_on_disk_are_those_of_the_examples(tmp_path):
    arrays = {"inputs": np.zeros((4, 2), np.float32), "labels": np.array([1, 0, 1, 1])}
    examples = Examples(arrays, groups=["Ωmega, 1", "b", "b", "Ωmega, 1"])
    write_examples(tmp_path / "x", examples, {})
    for kind in ("own", "labels"):
        here, there = groups_of_examples(examples, kind, None), read_groups(ArrayFile(tmp_path / "x"), kind, None)
        assert here.names == there.names
        assert here.members.tolist() == there.members.tolist()
    assert there.names == ["label 0", "label 1"]


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        ({"labels": np.zeros(3, int)}, "own", r"scores\.groups=own, but the training examples have no groups.*labels"),
        ({"inputs": np.zeros(3)}, "labels", r"scores\.groups=labels, but the training examples have no labels"),
        ({"labels": np.zeros((3, 2), int)}, "labels", r"labels have shape \(3, 2\), not one class an example"),
    ],
)
def test_examples_without_such_groups_are_refused(arrays, kind, message):
    with pytest.raises(DataError, match=message):
        groups_of_examples(Examples(arrays), kind, None)


def test_the_sums_of_a_block_of_targets_stay_within_their_memory():
    groups = groups_by_name(range(1000))
    assert columns_within(groups, 8 * 1000 * 5 + 1) == 5
    assert columns_within(groups, 10) == 1
