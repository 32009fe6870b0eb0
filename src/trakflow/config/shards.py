"""How indices are cut into the pieces that jobs work on."""


def shard_range(size: int, shards: int, shard: int) -> tuple[int, int]:
    """Return the index range [start, stop) of one of `shards` almost equal parts of `size` examples."""
    return shard * size // shards, (shard + 1) * size // shards


def batch_indices(total: int, per_batch: int, batch: int) -> range:
    """Return the indices of one batch of at most `per_batch`; adding more at the end changes only the last batch."""
    return range(batch * per_batch, min((batch + 1) * per_batch, total))


def batch_count(total: int, per_batch: int) -> int:
    """Return how many batches there are."""
    return -(-total // per_batch)
