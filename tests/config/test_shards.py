import pytest

from trakflow.config.shards import batch_count, batch_indices, shard_range


@pytest.mark.parametrize(("size", "shards"), [(1, 1), (7, 3), (10, 10), (1437, 2), (60_000, 7), (11, 4)])
def test_shards_tile_the_examples_in_almost_equal_parts(size, shards):
    ranges = [shard_range(size, shards, shard) for shard in range(shards)]
    assert [index for start, stop in ranges for index in range(start, stop)] == list(range(size))
    lengths = {stop - start for start, stop in ranges}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


@pytest.mark.parametrize(("total", "per_batch"), [(1, 1), (100, 50), (101, 50), (3, 50), (7, 2)])
def test_batches_tile_the_subsets_and_are_full_but_for_the_last(total, per_batch):
    batches = [batch_indices(total, per_batch, batch) for batch in range(batch_count(total, per_batch))]
    assert [index for batch in batches for index in batch] == list(range(total))
    assert all(len(batch) == per_batch for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= per_batch


def test_more_subsets_leave_full_batches_as_they_are():
    assert [batch_indices(10, 4, batch) for batch in range(2)] == [batch_indices(30, 4, batch) for batch in range(2)]
