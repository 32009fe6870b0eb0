import numpy as np
import pytest

from trakflow.errors import DataError
from trakflow.evaluation.mislabel import average_precision_interval, precision_recall, self_influence


def test_self_influence_is_the_diagonal():
    scores = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert self_influence(scores).tolist() == [0, 4, 8]
    with pytest.raises(DataError, match=r"shape \(2, 3\)"):
        self_influence(scores[:2])


def test_a_diagonal_that_is_one_value_but_for_rounding_ranks_nothing():
    cosines = np.eye(4, dtype=np.float32) * np.float32([1, 1 - 1e-7, 1 + 1e-7, 1])
    assert len(set(self_influence(cosines))) == 1
    assert len(set(self_influence(np.diag([1.0, 1.1, 1.0])))) == 2
    assert self_influence(np.zeros((3, 3))).tolist() == [0, 0, 0]


def test_precision_and_recall_are_counted_by_looking_at_the_highest_first():
    # Looked at: wrong, right, two at once of which one is wrong, right.
    influence = np.array([0.5, 9.0, 0.5, 2.0, -1.0])
    flipped = np.array([True, True, False, False, False])
    examined, precision, recall = precision_recall(flipped, influence)
    assert examined.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 4, 2 / 5])
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1, 1])


def test_average_precision_weights_precisions_by_the_recall_that_they_add():
    influence = np.array([4.0, 3.0, 2.0, 1.0])
    flipped = np.array([True, False, True, False])
    found = average_precision_interval(flipped, influence, 100, 0.9, 0)
    assert found.value == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert found.low <= found.value <= found.high
    # The order is turned around by the sign: nothing but the highest counts as wrong.
    worst = average_precision_interval(flipped, -influence, 100, 0.9, 0)
    assert worst.value == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 4)


def test_no_order_has_the_precision_of_chance_and_a_perfect_one_is_certain():
    flipped = np.arange(200) < 20
    chance = average_precision_interval(flipped, np.ones(200), 50, 0.95, 0)
    assert (chance.value, chance.low, chance.high) == pytest.approx((0.1, 0.1, 0.1))
    perfect = average_precision_interval(flipped, -np.arange(200.0), 50, 0.95, 0)
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((1, 1, 1))


def test_the_interval_holds_the_average_precision_of_the_population_as_often_as_it_says():
    covered = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        flipped = np.arange(300) < 60
        influence = random.normal(size=300) + 1.5 * flipped
        found = average_precision_interval(flipped, influence, 60, 0.9, seed)
        covered += found.low <= POPULATION <= found.high
    assert covered >= 14


def _population():
    random = np.random.default_rng(99)
    flipped = np.arange(200_000) < 40_000
    order = np.argsort(-(random.normal(size=200_000) + 1.5 * flipped))
    hits = flipped[order]
    return float((np.cumsum(hits) / np.arange(1, 200_001))[hits].mean())


POPULATION = _population()
