import numpy as np
import pytest

from trakflow.errors import DataError
from trakflow.evaluation.removal import choose_targets, flip_rates, masks_without_highest, mean_interval


def test_the_highest_scores_of_each_target_are_left_out():
    scores = np.array([[3.0, -1.0], [-5.0, 2.0], [1.0, 9.0], [2.0, -2.0]])
    masks = masks_without_highest(scores, 2, [0, 1], 0)
    assert masks.tolist() == [[False, True, True, False], [True, False, False, True]]


def test_equal_scores_are_left_out_in_a_random_order_of_each_target_and_more_of_them_include_fewer():
    zeros = np.zeros((40, 50))
    few, more = (masks_without_highest(zeros, count, list(range(50)), 3) for count in (5, 10))
    assert ((~few).sum(axis=1) == 5).all()
    assert ((~more).sum(axis=1) == 10).all()
    assert not (~few & more).any()
    assert len({mask.tobytes() for mask in few}) == 50
    # Each example goes as often as any other: 50 x 5 / 40 times, up to chance.
    assert (~few).sum(axis=0).max() < 20
    # Which it is depends on the target alone and not on its place among others.
    np.testing.assert_array_equal(masks_without_highest(zeros[:, :1], 5, [7], 3)[0], few[7])
    assert not np.array_equal(masks_without_highest(zeros[:, :1], 5, [7], 4)[0], few[7])


def test_equal_scores_come_after_higher_ones():
    scores = np.zeros((30, 1))
    scores[[4, 9], 0] = 1.0, 0.5
    masks = masks_without_highest(scores, 4, [0], 0)
    assert not masks[0, [4, 9]].any()
    assert (~masks).sum() == 4


def test_targets_are_drawn_from_those_that_most_models_are_right_on():
    labels = np.arange(6)
    # Right of four models: all, three, two, one, none, all.
    wrong = np.array([0, 1, 2, 3, 4, 0])
    predicted = np.stack([np.where(wrong > model, labels + 1, labels) for model in range(4)])
    assert sorted(choose_targets(predicted, labels, 3, 0).tolist()) == [0, 1, 5]
    everything = np.tile(np.arange(50), (2, 1))
    few, more = (choose_targets(everything, np.arange(50), count, 0) for count in (5, 20))
    np.testing.assert_array_equal(more[:5], few)
    assert len(set(more.tolist())) == 20
    assert few.tolist() != choose_targets(everything, np.arange(50), 5, 1).tolist()
    with pytest.raises(DataError, match=r"removal\.targets=4.* only 3 of 6 targets"):
        choose_targets(predicted, labels, 4, 0)


def test_a_flip_rate_is_the_part_of_models_that_predict_another_label():
    predicted = np.array([[1, 2, 3], [1, 0, 0], [1, 2, 1], [1, 2, 2]])
    np.testing.assert_allclose(flip_rates(predicted, np.array([1, 2, 4])), [0, 0.25, 1])


def test_the_interval_of_a_mean_is_that_of_normal_theory_and_the_same_for_equal_seeds():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = mean_interval(values, 4000, 0.9, 0)
    half = 1.645 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert mean_interval(values, 4000, 0.9, 0) == found
    shifted = mean_interval(values + 1, 4000, 0.9, 0)
    assert (shifted.low, shifted.high) == pytest.approx((found.low + 1, found.high + 1))
