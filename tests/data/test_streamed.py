"""Streamed arrays are files like any other, made a chunk at a time."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from trakflow.data import streamed
from trakflow.data.examples import Examples, as_examples, check_examples, read_arrays, write_examples
from trakflow.data.streamed import StreamedRows, write_streamed
from trakflow.errors import DataError
from trakflow.store.array_file import ArrayFile, content, write_arrays


def arrays(count=50):
    random = np.random.default_rng(0)
    return {
        "inputs": random.integers(0, 256, (count, 3, 20, 20), np.uint8),
        "labels": np.arange(count),
        "wide": random.random((count, 5)).astype(np.float32),
    }


@pytest.mark.parametrize("count", [0, 1, 50])
@pytest.mark.parametrize(("block", "chunk"), [(2500, 1), (2500, 6000), (1 << 20, 1 << 26)])
def test_a_streamed_file_has_the_contents_of_one_written_at_once(tmp_path, monkeypatch, count, block, chunk):
    monkeypatch.setattr("trakflow.store.checksums.BLOCK_BYTES", block)
    monkeypatch.setattr(streamed, "CHUNK_BYTES", chunk)
    whole, asked = arrays(count), []

    def make(first, last):
        asked.append(last - first)
        return whole["inputs"][first:last]

    rows = StreamedRows(whole["inputs"].shape, np.dtype(np.uint8), make)
    write_streamed(tmp_path / "streamed.safetensors", {**whole, "inputs": rows}, {"stage": "test"})
    write_arrays(tmp_path / "whole.safetensors", whole, {"stage": "test"})
    found, expected = (ArrayFile(tmp_path / f"{name}.safetensors") for name in ("streamed", "whole"))
    assert content(found) == content(expected)
    assert found.provenance == expected.provenance
    for name, value in whole.items():
        np.testing.assert_array_equal(found.read(name), value)
        np.testing.assert_array_equal(load_file(found.path)[name], value)
    assert max(asked) * 1200 <= max(chunk, block)
    assert sum(asked) == count


def test_examples_with_streamed_inputs_are_checked_and_read_like_others(tmp_path):
    whole = arrays()
    rows = StreamedRows(whole["inputs"].shape, np.dtype(np.uint8), lambda first, last: whole["inputs"][first:last])
    examples = as_examples(Examples({"inputs": rows, "labels": whole["labels"]}))
    check_examples(examples, 50, 50, "data.train_size")
    with pytest.raises(DataError, match="labels outside 0 to 9"):
        check_examples(examples, 50, 10, "data.train_size")
    with pytest.raises(DataError, match=r"has 50 examples but data\.train_size is 51"):
        check_examples(examples, 51, 50, "data.train_size")
    write_examples(tmp_path / "data.safetensors", examples, {})
    for chosen in (slice(7, 31), slice(None), np.array([30, 4, 9])):
        found = read_arrays(ArrayFile(tmp_path / "data.safetensors"), chosen)
        assert found.keys() == {"inputs", "labels"}
        np.testing.assert_array_equal(found["inputs"], whole["inputs"][chosen])
        np.testing.assert_array_equal(found["labels"], whole["labels"][chosen])


def test_a_source_that_makes_other_rows_leaves_no_file(tmp_path):
    rows = StreamedRows((4, 2), np.dtype(np.uint8), lambda first, last: np.zeros((last - first, 3), np.uint8))
    with pytest.raises(DataError, match=r"Rows 0 to 3 were to be \(4, 2\) of uint8, but are \(4, 3\)"):
        write_streamed(tmp_path / "data.safetensors", {"inputs": rows}, {})
    assert list(tmp_path.iterdir()) == []


def test_streamed_floats_are_refused():
    with pytest.raises(DataError, match=r"must be integers.*float32"):
        StreamedRows((4, 2), np.dtype(np.float32), lambda first, last: np.zeros((last - first, 2), np.float32))
