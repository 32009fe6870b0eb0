import itertools

import numpy as np
import pytest

from trakflow.subsets import random_subset, random_subsets


@pytest.mark.parametrize(("size", "fraction", "chosen"), [(4, 0.5, 2), (7, 0.5, 3), (1437, 0.5, 718), (50, 0.9, 45)])
def test_sizes_are_the_floor_of_the_fraction(size, fraction, chosen):
    masks = random_subsets(size, fraction, 0, "evaluation", range(4))
    assert masks.shape == (4, size)
    assert masks.dtype == bool
    assert (masks.sum(axis=1) == chosen).all()


def test_all_subsets_of_a_tiny_set_are_drawn_before_any_repeats():
    drawn = {tuple(np.flatnonzero(mask)) for mask in random_subsets(4, 0.5, 0, "evaluation", range(6))}
    assert drawn == set(itertools.combinations(range(4), 2))


@pytest.mark.parametrize("size", [6, 60])
def test_a_subset_does_not_depend_on_the_others_asked_for(size):
    all_at_once = random_subsets(size, 0.5, 3, "evaluation", range(12))
    alone = np.stack([random_subset(size, 0.5, 3, "evaluation", index) for index in reversed(range(12))])[::-1]
    assert np.array_equal(all_at_once, alone)
    assert np.array_equal(all_at_once[5:9], random_subsets(size, 0.5, 3, "evaluation", range(5, 9)))


def test_subsets_of_one_role_differ():
    for size in (6, 60):
        masks = random_subsets(size, 0.5, 1, "evaluation", range(20))
        assert len({mask.tobytes() for mask in masks}) == 20


def test_every_example_is_as_likely_as_any_other_and_pairs_are_independent():
    count = 4000
    masks = random_subsets(48, 0.5, 0, "evaluation", range(count)).astype(float)
    error = np.sqrt(0.25 / count)
    assert np.abs(masks.mean(axis=0) - 0.5).max() < 5 * error
    # Two of 48 are both in a half with probability 24/48 * 23/47.
    together = (masks.T @ masks / count)[np.triu_indices(48, 1)]
    assert np.abs(together - 0.5 * 23 / 47).max() < 5 * error


def test_roles_and_seeds_are_independent():
    count, size = 200, 400
    drawn = [
        random_subsets(size, 0.5, seed, role, range(count)).ravel()
        for seed, role in ((0, "evaluation"), (0, "checkpoint"), (1, "evaluation"))
    ]
    for left, right in itertools.combinations(drawn, 2):
        assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(count * size)
