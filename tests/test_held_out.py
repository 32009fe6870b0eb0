"""What the configuration refuses as too few subsets is what the datamodel refuses."""

import numpy as np
import pytest

from trakflow.errors import DataError
from trakflow.held_out import number_held_out, smallest_count
from trakflow.methods.datamodel import Datamodel


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 15, 16, 40])
def test_the_datamodel_takes_as_many_subsets_as_can_be_held_out(count, part):
    masks, outputs = np.eye(count, 3, dtype=bool), np.ones((count, 1), dtype=np.float32)
    try:
        Datamodel(held_out=part).scores(masks, outputs, 0)
        taken = True
    except DataError:
        taken = False
    assert (number_held_out(count, part) is not None) == taken


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.9])
def test_the_smallest_count_is_the_first_of_which_a_part_can_be_held_out(part):
    smallest = smallest_count(part)
    assert number_held_out(smallest, part) is not None
    assert all(number_held_out(count, part) is None for count in range(smallest))
    assert smallest_count(1e-9) is None
