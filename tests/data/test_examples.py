import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from trakflow.data.examples import (
    Examples,
    as_examples,
    check_examples,
    read_arrays,
    read_ids,
    read_texts,
    write_examples,
)
from trakflow.errors import DataError
from trakflow.store.array_file import ArrayFile


def pairs():
    random = np.random.default_rng(0)
    return random.standard_normal((6, 2, 3)), random.integers(0, 4, 6)


class MapStyle:
    """A length and items, nothing else."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        inputs, labels = pairs()
        return inputs[index], int(labels[index])


INPUTS, LABELS = pairs()
FORMS = {
    "tuple of arrays": (INPUTS, LABELS),
    "tuple of tensors": (torch.from_numpy(INPUTS), torch.from_numpy(LABELS)),
    "tuple with a list": (INPUTS, LABELS.tolist()),
    "map style": MapStyle(),
    "torch data set": TensorDataset(torch.from_numpy(INPUTS), torch.from_numpy(LABELS)),
    "list of pairs": list(zip(INPUTS, LABELS, strict=True)),
    "list of mappings": [{"inputs": row, "labels": int(label)} for row, label in zip(INPUTS, LABELS, strict=True)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_examples(form):
    found = as_examples(FORMS[form])
    assert found.arrays.keys() == {"inputs", "labels"}
    assert found.arrays["inputs"].dtype == np.float32
    assert found.arrays["labels"].dtype == np.int64
    np.testing.assert_array_equal(found.arrays["inputs"], INPUTS.astype(np.float32))
    np.testing.assert_array_equal(found.arrays["labels"], LABELS)
    assert len(found) == 6


def test_examples_pass_through_and_integer_inputs_stay_integers():
    examples = Examples({"tokens": np.arange(4)})
    np.testing.assert_array_equal(as_examples(examples).arrays["tokens"], np.arange(4))
    assert as_examples((np.arange(6).reshape(3, 2), [0, 1, 0])).arrays["inputs"].dtype == np.int64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "returned int; return"),
        (None, "returned NoneType; return"),
        ({"inputs": INPUTS, "labels": LABELS}, "returned dict; return"),
        (iter([]), "returned list_iterator; return"),
        ([], "at least one"),
        ([1, 2, 3], r"\(input, label\) pairs.*examples\.Examples"),
        ([{"inputs": 1}, {"labels": 1}], r"mappings with the same keys"),
        ([(1, 2, 3)], r"\(input, label\) pairs"),
    ],
)
def test_anything_else_is_refused_with_what_to_return(value, message):
    with pytest.raises(DataError, match=message):
        as_examples(value)


def check(arrays, ids=(), size=6, num_classes=4):
    check_examples(Examples(arrays, list(ids)), size, num_classes, "data.train_size")


def test_sound_examples_pass():
    check({"inputs": INPUTS, "labels": LABELS}, [f"id{index}" for index in range(6)])
    check({"inputs": INPUTS}, num_classes=None)
    check({"inputs": np.arange(6)})


def test_nan_and_inf_are_named_by_index_and_id():
    inputs = INPUTS.copy()
    inputs[1, 0, 2], inputs[4, 1, 1] = np.nan, -np.inf
    with pytest.raises(DataError, match="Examples 1, 4 hold NaN or Inf in 'inputs'"):
        check({"inputs": inputs, "labels": LABELS})
    with pytest.raises(DataError, match=r"Examples 1 \(b\), 4 \(e\) hold NaN"):
        check({"inputs": inputs, "labels": LABELS}, "abcdef")
    with pytest.raises(DataError, match="Examples 0, 1, 2, 3, 4 and 1 more hold NaN or Inf in 'weights'"):
        check({"inputs": INPUTS, "weights": np.full(6, np.nan)})


def test_labels_out_of_range_are_named():
    for label in (-1, 4):
        labels = LABELS.copy()
        labels[3] = label
        with pytest.raises(DataError, match=r"Examples 3 have labels outside 0 to 3 \(data\.num_classes is 4\)"):
            check({"inputs": INPUTS, "labels": labels})


def test_another_number_of_examples_than_stated_is_refused():
    with pytest.raises(DataError, match=r"'inputs' has 6 examples but data\.train_size is 7"):
        check({"inputs": INPUTS, "labels": LABELS}, size=7)
    with pytest.raises(DataError, match="'labels' has 5 examples"):
        check({"inputs": INPUTS, "labels": LABELS[:5]})
    with pytest.raises(DataError, match="5 ids"):
        check({"inputs": INPUTS}, "abcde")


def test_examples_read_back_from_disk_with_their_ids(tmp_path):
    ids = ["a", "a much longer name", "ünïcode é", "", "0", "trailing "]
    write_examples(tmp_path / "a", Examples({"inputs": INPUTS, "labels": LABELS}, ids), {"stage": "x"})
    file = ArrayFile(tmp_path / "a")
    assert read_ids(file) == ids
    arrays = read_arrays(file)
    assert arrays.keys() == {"inputs", "labels"}
    np.testing.assert_array_equal(arrays["inputs"], INPUTS)


def test_texts_and_groups_read_back_from_disk_and_are_no_arrays(tmp_path):
    texts, groups = ["a", "", "naïve — ?"], ["x", "x", "yy"]
    examples = as_examples(Examples({"inputs": np.zeros((3, 2))}, [], texts, groups))
    check_examples(examples, 3, None, "data.train_size")
    write_examples(tmp_path / "e.safetensors", examples, {})
    file = ArrayFile(tmp_path / "e.safetensors")
    assert read_texts(file, "texts") == texts
    assert read_texts(file, "groups", np.array([2, 0])) == ["yy", "x"]
    assert set(read_arrays(file)) == {"inputs"}


def test_texts_and_groups_may_be_missing_but_not_of_another_number(tmp_path):
    write_examples(tmp_path / "e.safetensors", Examples({"inputs": np.zeros((3, 2))}), {})
    assert read_texts(ArrayFile(tmp_path / "e.safetensors"), "texts") is None
    with pytest.raises(DataError, match=r"2 groups but data\.train_size is 3"):
        check_examples(Examples({"inputs": np.zeros((3, 2))}, groups=["a", "b"]), 3, None, "data.train_size")


def test_without_ids_an_example_is_called_by_its_index(tmp_path):
    write_examples(tmp_path / "a", Examples({"inputs": np.zeros((12, 1))}), {})
    assert read_ids(ArrayFile(tmp_path / "a")) == [str(index) for index in range(12)]


def test_a_float64_examples_object_is_kept_as_float32_with_int64_labels():
    found = as_examples(Examples({"inputs": np.zeros((2, 3)), "labels": np.array([0, 1], dtype=np.uint8)}, ["a", "b"]))
    assert found.arrays["inputs"].dtype == np.float32
    assert found.arrays["labels"].dtype == np.int64
    assert found.ids == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((np.zeros((2, 3)), np.array([0.5, 1.7])), "Labels must be integers"),
        ((np.zeros((2, 3)), ["cat", "dog"]), "Labels must be integers"),
        ([(np.zeros(3), 0), (np.zeros(4), 1)], "different shapes"),
        ((["some", "text"], [0, 1]), "no numbers"),
    ],
)
def test_what_torch_could_not_take_is_refused_in_words(value, words):
    with pytest.raises(DataError, match=words):
        as_examples(value)


def test_labels_need_a_number_of_classes():
    with pytest.raises(DataError, match=r"data\.num_classes must say"):
        check({"inputs": INPUTS, "labels": LABELS}, num_classes=None)


@pytest.mark.parametrize("ids", [[1, 2], np.array(["a", "b"]), ("a", "b")])
def test_ids_of_any_kind_become_text(ids):
    found = as_examples(Examples({"inputs": np.zeros((2, 3))}, ids))
    assert found.ids == [str(name) for name in ids]


def test_tensors_of_any_kind_become_float32_arrays():
    tensor = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    for value in ((tensor, torch.tensor([0, 1])), [(tensor[0], torch.tensor(0)), (tensor[1], 1)]):
        found = as_examples(value)
        np.testing.assert_array_equal(found.arrays["inputs"], np.ones((2, 3), dtype=np.float32))
        assert found.arrays["labels"].tolist() == [0, 1]


def test_names_that_the_workflow_keeps_for_itself_are_refused():
    with pytest.raises(DataError, match="'attributed_labels'"):
        as_examples(Examples({"inputs": np.zeros((2, 3)), "attributed_labels": np.zeros(2)}))
