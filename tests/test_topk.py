import numpy as np
import pandas as pd
import pytest

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


def table_of(scores, layout, width):
    top = TopExamples(COUNT)
    for first in range(0, M, width):
        top.add(first, np.ascontiguousarray(scores[:, first : first + width]))
    top.write(layout)
    return pd.read_parquet(layout.score_topk)


def test_the_table_lists_the_ends_of_a_sorted_column(layout):
    scores = np.random.default_rng(1).standard_normal((N, M)).astype(np.float32)
    table = table_of(scores, layout, M)
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
    table = table_of(scores, layout, M)
    train, targets = load_file(layout.train), load_file(layout.targets)
    assert table["train_id"].tolist() == [f"{N}-{index}" for index in table["train_index"]]
    assert table["target_id"].tolist() == [f"5-{index}" for index in table["target"]]
    assert table["train_label"].tolist() == train["labels"][table["train_index"]].tolist()
    assert table["target_label"].tolist() == targets["labels"][table["target"]].tolist()
    assert table["attributed_label"].tolist() == targets["attributed_labels"][table["target"]].tolist()


@pytest.mark.parametrize("width", [1, 2])
def test_the_table_does_not_depend_on_the_blocks(layout, width):
    scores = np.random.default_rng(1).standard_normal((N, M)).astype(np.float32)
    pd.testing.assert_frame_equal(table_of(scores, layout, width), table_of(scores, layout, M))


def test_equal_scores_go_to_the_lower_index(layout):
    scores = np.random.default_rng(1).integers(-2, 3, (N, M)).astype(np.float32)
    table = table_of(scores, layout, M)
    for target in range(M):
        for direction, value in (("helpful", 2), ("harmful", -2)):
            rows = table[(table["target"] == target) & (table["direction"] == direction)]
            assert rows["train_index"].tolist() == np.flatnonzero(scores[:, target] == value)[:COUNT].tolist()
