import itertools

import numpy as np
import pytest

from trakflow.seeds import derive_seed, generator


def test_a_known_seed_stays_what_it_is():
    # First 63 bits of sha256('[0, "sketch", 3]'): changing this changes every result ever made.
    assert derive_seed(0, "sketch", 3) == 0x04D6782AAD110362


def test_no_two_tuples_share_a_seed():
    roles = ("sketch", "checkpoint", "retrain", "init", "order")
    tuples = list(itertools.product(range(20), roles, range(25), range(25)))
    assert len({derive_seed(*parts) for parts in tuples}) == len(tuples) == 62_500


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((1,), ("1",)),
        ((1, 23), (12, 3)),
        (("ab",), ("a", "b")),
        (("a", "b"), ("b", "a")),
        (("a,b",), ("a", "b")),
        (('a", "b',), ("a", "b")),
        ((0,), (0, 0)),
        ((), ("",)),
        ((10_000 * 3 + 1,), (3, 1)),
    ],
)
def test_similar_tuples_differ(left, right):
    assert derive_seed(*left) != derive_seed(*right)


def test_seeds_are_accepted_by_torch_and_spread_over_63_bits():
    seeds = np.array([derive_seed(index) for index in range(4000)], dtype=np.uint64)
    assert seeds.max() < 2**63
    bits = (seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)
    # Each bit is a fair coin: 4000 throws have a standard error of .0079.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.0079


def test_streams_repeat_for_equal_parts_and_are_uncorrelated_otherwise():
    first, again, other = (generator(0, "a", part).standard_normal(20_000) for part in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(20_000)
