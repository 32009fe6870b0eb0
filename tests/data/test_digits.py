import numpy as np
import pytest
from sklearn.datasets import load_digits

from trakflow.data import digits
from trakflow.errors import DataError


def test_images_labels_and_ids_are_scikit_learns():
    bunch = load_digits()
    for part, count in ((digits.train(), 1437), (digits.targets(360), 360)):
        indices = [int(name.removeprefix("digit-")) for name in part.ids]
        assert part.arrays["inputs"].shape == (count, 1, 8, 8)
        assert part.arrays["inputs"].dtype == np.float32
        assert part.arrays["labels"].dtype == np.int64
        np.testing.assert_array_equal(part.arrays["inputs"][:, 0] * 16, bunch.images[indices])
        np.testing.assert_array_equal(part.arrays["labels"], bunch.target[indices])


def test_the_two_parts_are_disjoint_and_all_there_is():
    train, targets = digits.train().ids, digits.targets(360).ids
    assert len({*train, *targets}) == len(train) + len(targets) == 1797


def test_every_class_is_in_both_parts_in_proportion():
    shares = [np.bincount(part.arrays["labels"]) / len(part) for part in (digits.train(), digits.targets(360))]
    assert np.abs(shares[0] - shares[1]).max() < 0.003


@pytest.mark.parametrize("part", [digits.train, digits.targets])
def test_a_smaller_size_is_the_beginning_of_a_larger_one(part):
    small, large = part(20), part(55)
    assert list(small.ids) == list(large.ids[:20])
    np.testing.assert_array_equal(small.arrays["inputs"], large.arrays["inputs"][:20])


@pytest.mark.parametrize(("part", "there_are"), [(digits.train, 1437), (digits.targets, 360)])
def test_more_than_there_are_is_refused(part, there_are):
    with pytest.raises(DataError, match=f"={there_are + 1}, but digits has {there_are}"):
        part(there_are + 1)
