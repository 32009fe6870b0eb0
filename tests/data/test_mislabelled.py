import numpy as np
import pytest

from trakflow.data.digits import train
from trakflow.data.examples import Examples, read_arrays, write_examples
from trakflow.data.mislabelled import mislabelled
from trakflow.errors import DataError
from trakflow.store.array_file import ArrayFile


def test_the_marked_labels_are_exchanged_for_any_other_class_and_nothing_else_changes():
    before = train(1000)
    after = mislabelled(before, 10, 0.1, 3)
    flipped = after.arrays["flipped"]
    assert flipped.sum() == 100
    np.testing.assert_array_equal(flipped, after.labels != before.labels)
    np.testing.assert_array_equal(after.arrays["inputs"], before.arrays["inputs"])
    assert after.ids == before.ids
    # Of nine other classes each comes about eleven times.
    steps = np.bincount((after.labels - before.labels)[flipped] % 10, minlength=10)
    assert steps[0] == 0
    assert steps[1:].min() >= 3
    assert set(after.labels) <= set(range(10))


def test_which_labels_are_exchanged_follows_the_seed_alone():
    first, again, other = (mislabelled(train(200), 10, 0.1, seed).arrays for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["labels"], again["labels"])
    assert not np.array_equal(first["flipped"], other["flipped"])


def test_a_tuple_of_inputs_and_labels_will_do_and_texts_and_groups_stay():
    assert mislabelled((np.zeros((10, 2)), np.zeros(10, int)), 2, 0.3).labels.sum() == 3
    examples = Examples({"inputs": np.zeros((4, 1)), "labels": np.zeros(4, int)}, [], list("abcd"), list("xxyy"))
    found = mislabelled(examples, 2, 0.5)
    assert (found.texts, found.groups) == (list("abcd"), list("xxyy"))


def test_no_task_reads_which_labels_were_exchanged(tmp_path):
    write_examples(tmp_path / "train.safetensors", mislabelled(train(20), 10), {})
    file = ArrayFile(tmp_path / "train.safetensors")
    assert file.read("flipped").sum() == 2
    assert set(read_arrays(file)) == {"inputs", "labels"}


@pytest.mark.parametrize(
    ("examples", "classes", "fraction", "message"),
    [
        (Examples({"inputs": np.zeros((4, 2))}), 2, 0.5, "do not have one each"),
        ((np.zeros((4, 2)), np.zeros((4, 2), int)), 2, 0.5, "do not have one each"),
        ((np.zeros((4, 2)), np.zeros(4, int)), 1, 0.5, "there must be another class"),
        ((np.zeros((4, 2)), np.zeros(4, int)), 2, 0.1, "would exchange 0 of 4 labels"),
        ((np.zeros((4, 2)), np.zeros(4, int)), 2, 1.0, "would exchange 4 of 4 labels"),
    ],
)
def test_labels_that_cannot_be_exchanged_are_refused(examples, classes, fraction, message):
    with pytest.raises(DataError, match=message):
        mislabelled(examples, classes, fraction)
