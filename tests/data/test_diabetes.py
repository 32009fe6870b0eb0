import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from trakflow.data import diabetes
from trakflow.errors import DataError


def rows(part):
    return [int(name.removeprefix("patient-")) for name in part.ids]


def test_inputs_values_and_texts_are_scikit_learns_up_to_units():
    bunch = load_diabetes(scaled=False)
    for part in (diabetes.train(), diabetes.targets()):
        chosen = rows(part)
        assert part.arrays["inputs"].shape == (len(chosen), 10)
        assert part.arrays["inputs"].dtype == part.arrays["values"].dtype == np.float32
        for column in range(10):
            assert np.corrcoef(part.arrays["inputs"][:, column], bunch.data[chosen, column])[0, 1] > 1 - 1e-6
        assert np.corrcoef(part.arrays["values"], bunch.target[chosen])[0, 1] > 1 - 1e-6
        for text, row in zip(part.texts, chosen, strict=True):
            assert text.startswith(f"age {bunch.data[row, 0]:.0f}, ")
            assert text.endswith(f": {bunch.target[row]:.0f}")


def test_training_patients_are_standardised_whatever_the_size():
    train = diabetes.train()
    for array in train.arrays.values():
        np.testing.assert_allclose(array.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(array.std(axis=0), 1, rtol=1e-5)
    for part, whole in ((diabetes.train(20), train), (diabetes.targets(20), diabetes.targets())):
        assert list(part.ids) == list(whole.ids[:20])
        np.testing.assert_array_equal(part.arrays["values"], whole.arrays["values"][:20])


def test_the_two_parts_are_disjoint_and_all_there_is():
    assert sorted(rows(diabetes.train()) + rows(diabetes.targets())) == list(range(442))


@pytest.mark.parametrize(("part", "there_are"), [(diabetes.train, 342), (diabetes.targets, 100)])
def test_more_than_there_are_is_refused(part, there_are):
    with pytest.raises(DataError, match=f"={there_are + 1}, but diabetes has {there_are}"):
        part(there_are + 1)
