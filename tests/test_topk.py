import numpy as np
import pandas as pd
import pytest

from trakflow import topk
from trakflow.data.examples import Examples, write_examples
from trakflow.layout import Layout
from trakflow.topk import TopExamples

N, M, COUNT = 200, 5, 4


@pytest.fixture
def layout(tmp_path):
    layout = Layout(str(tmp_path))
    random = np.random.default_rng(0)
    for path, size in ((layout.train, N), (layout.targets, M)):
        arrays = {"inputs": np.zeros((size, 2), dtype=np.float32), "labels": random.integers(0, 9, size)}
        if size == M:
            arrays["attributed_labels"] = random.integers(0, 9, size)
        write_examples(path, Examples(arrays, [f"{size}-{index}" for index in range(size)]), {})
    return layout


def table_of(scores, layout, width=M, rows=N):
    top = TopExamples(COUNT)
    for first in range(0, M, width):
        for row in range(0, N, rows):
            top.add(row, first, scores[row : row + rows, first : first + width])
    top.write(layout, layout.score_topk)
    return pd.read_parquet(layout.score_topk)


def test_the_table_lists_the_ends_of_a_sorted_column(layout):
    scores = np.random.default_rng(1).standard_normal((N, M)).astype(np.float32)
    table = table_of(scores, layout)
    assert len(table) == M * 2 * COUNT
    for target in range(M):
        order = np.argsort(scores[:, target])
        for direction, expected in (("harmful", order[:COUNT]), ("helpful", order[::-1][:COUNT])):
            rows = table[(table["target"] == target) & (table["direction"] == direction)]
            assert rows["rank"].tolist() == [1, 2, 3, 4]
            assert rows["train_index"].tolist() == expected.tolist()
            assert rows["score"].tolist() == scores[expected, target].tolist()


def test_ids_and_labels_are_those_of_the_rows(layout):
    from safetensors.numpy import load_file

    scores = np.random.default_rng(1).standard_normal((N, M)).astype(np.float32)
    table = table_of(scores, layout)
    train, targets = load_file(layout.train), load_file(layout.targets)
    assert table["train_id"].tolist() == [f"{N}-{index}" for index in table["train_index"]]
    assert table["target_id"].tolist() == [f"5-{index}" for index in table["target"]]
    assert table["train_label"].tolist() == train["labels"][table["train_index"]].tolist()
    assert table["target_label"].tolist() == targets["labels"][table["target"]].tolist()
    assert table["attributed_label"].tolist() == targets["attributed_labels"][table["target"]].tolist()


def test_labels_of_tokens_are_left_out(tmp_path):
    layout = Layout(str(tmp_path))
    tokens = np.zeros((N, 3), dtype=np.int64)
    for path in (layout.train, layout.targets):
        write_examples(path, Examples({"input_ids": tokens, "labels": tokens}), {})
    table = table_of(np.zeros((N, M), dtype=np.float32), layout)
    assert list(table) == ["target", "target_id", "direction", "rank", "train_index", "train_id", "score"]


def arrangements():
    random = np.random.default_rng(1)
    scores = random.standard_normal((N, M)).astype(np.float32)
    few = random.integers(-2, 3, (N, M)).astype(np.float32)
    return {
        "random": scores,
        "ascending": np.sort(scores, axis=0),
        "descending": np.sort(scores, axis=0)[::-1],
        "ties": few,
        "all equal": np.zeros((N, M), dtype=np.float32),
        "infinite": np.where(few == 0, np.inf, np.where(few == 1, -np.inf, few)).astype(np.float32),
        "one column of NaN": np.where(np.arange(M) == 2, np.nan, scores).astype(np.float32),
    }


@pytest.mark.parametrize("name", arrangements())
@pytest.mark.parametrize(("width", "rows"), [(M, N), (1, N), (2, 1), (M, 1), (M, 7), (2, 64), (3, 199)])
def test_the_best_are_those_of_a_stable_sort_whatever_the_blocks(layout, monkeypatch, name, width, rows):
    monkeypatch.setattr(topk, "COMPARED", 150)
    scores = arrangements()[name]
    table = table_of(scores, layout, width, rows)
    assert len(table) == M * 2 * COUNT
    for target in range(M):
        for direction, sign in (("helpful", -1), ("harmful", 1)):
            expected = np.argsort(sign * scores[:, target], kind="stable")[:COUNT]
            found = table[(table["target"] == target) & (table["direction"] == direction)]
            assert found["rank"].tolist() == [1, 2, 3, 4]
            assert found["train_index"].tolist() == expected.tolist()
            np.testing.assert_array_equal(found["score"], scores[expected, target])


def test_what_is_kept_does_not_grow_with_the_rows():
    random = np.random.default_rng(1)
    top = TopExamples(COUNT)
    for row in range(0, 5000, 500):
        top.add(row, 0, random.standard_normal((500, M)).astype(np.float32))
        assert all(len(best.value) == COUNT * M for best in top._best.values())


def test_equal_scores_go_to_the_lower_index(layout):
    scores = np.random.default_rng(1).integers(-2, 3, (N, M)).astype(np.float32)
    table = table_of(scores, layout, rows=9)
    for target in range(M):
        for direction, value in (("helpful", 2), ("harmful", -2)):
            rows = table[(table["target"] == target) & (table["direction"] == direction)]
            assert rows["train_index"].tolist() == np.flatnonzero(scores[:, target] == value)[:COUNT].tolist()
