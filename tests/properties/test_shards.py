"""Any layout of shards and batches: everything once, and features that do not depend on it."""

from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trakflow.config.shards import batch_count, batch_indices, shard_range
from trakflow.errors import StoreError
from trakflow.features import FeatureSet
from trakflow.kernel_file import make_kernel

N, K = 12, 3
FOLDERS = count()


@given(st.integers(1, 10**15), st.integers(1, 60))
def test_shards_hold_everything_once_in_almost_equal_parts(size, shards):
    shards = min(shards, size)
    ranges = [shard_range(size, shards, shard) for shard in range(shards)]
    assert (ranges[0][0], ranges[-1][1]) == (0, size)
    assert all(left[1] == right[0] for left, right in pairwise(ranges))
    lengths = {stop - start for start, stop in ranges}
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 3000), st.integers(1, 400))
def test_batches_hold_everything_once_and_more_changes_only_the_last(total, per_batch):
    batches = [batch_indices(total, per_batch, batch) for batch in range(batch_count(total, per_batch))]
    assert [index for batch in batches for index in batch] == list(range(total))
    assert all(0 < len(batch) <= per_batch for batch in batches)
    assert [batch_indices(total + 1, per_batch, number) for number in range(len(batches) - 1)] == batches[:-1]


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    return random.normal(size=(N, K)).astype(np.float32), random.random((2, N)).astype(np.float32)


@given(st.sets(st.integers(1, N - 1), max_size=5), st.sets(st.integers(0, 5), max_size=2), st.randoms())
def test_features_do_not_depend_on_their_layout_and_none_may_be_missing(write_features, rows, cuts, lost, random):
    features, (gradients, weights) = rows
    paths = write_features(features, gradients, weights, cuts=sorted(cuts), name=str(next(FOLDERS)), gram_weights=None)
    random.shuffle(paths)
    kept = [path for number, path in enumerate(paths) if number not in lost]
    if not kept:
        return
    if len(kept) < len(paths):
        with pytest.raises(StoreError, match=r"missing"):
            FeatureSet(kept, weighted=True)
        return
    found = FeatureSet(kept, weighted=True)
    assert np.array_equal(np.concatenate([block.numpy() for _, block in found.phi()]), features)
    assert np.array_equal(found.loss_gradients(), gradients)
    first, last = sorted(random.sample(range(N + 1), 2))
    assert np.array_equal(found.column("curvatures", first, last), weights[first:last])
    wanted = np.linalg.eigvalsh((features.astype(float).T * weights) @ features.astype(float))
    np.testing.assert_allclose(make_kernel(found).eigenvalues.numpy(), wanted, rtol=1e-10)
