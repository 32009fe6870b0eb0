import numpy as np
import pytest

from trakflow.errors import StoreError
from trakflow.features import FeatureSet
from trakflow.store import checksums


def arrays(n=10, k=3):
    random = np.random.default_rng(0)
    features = random.standard_normal((n, k)).astype(np.float32)
    return features, random.uniform(size=n).astype(np.float32), random.uniform(size=n).astype(np.float32)


@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 9)])
@pytest.mark.parametrize("weighted", [True, False])
def test_shards_in_any_order_are_the_whole(write_features, cuts, weighted):
    features, gradients, curvatures = arrays()
    paths = write_features(features, gradients, curvatures, cuts)
    found = FeatureSet(paths[::-1], weighted)
    assert (found.n, found.k) == (10, 3)
    kept = [(start, rows.clone(), own) for start, rows, own in found.rows()]
    starts, rows, weights = zip(*kept, strict=True)
    assert list(starts) == [0, *cuts]
    np.testing.assert_array_equal(np.concatenate(rows), features)
    if weighted:
        np.testing.assert_array_equal(np.concatenate(weights), curvatures)
    else:
        assert set(weights) == {None}
    np.testing.assert_array_equal(found.loss_gradients(), gradients)
    assert found.seconds == 1.5 * (len(cuts) + 1)


def test_rows_of_large_shards_come_in_blocks_with_their_own_weights(write_features):
    n, k = 200, 4000
    features = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None], (n, k)).copy()
    weights = np.arange(n, dtype=np.float32)
    found = FeatureSet(write_features(features, weights, weights, (90,)), True)
    starts = []
    for start, rows, own in found.rows():
        starts.append(start)
        expected = np.arange(start, start + len(rows))
        np.testing.assert_array_equal(rows[:, 0], expected)
        np.testing.assert_array_equal(own, expected)
    assert len(starts) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("first", "last"), [(0, 30), (0, 1), (29, 30), (3, 4), (6, 21), (7, 20), (11, 13), (12, 30)])
def test_a_range_of_rows_is_cut_out_of_the_blocks_that_hold_it(write_features, monkeypatch, dtype, first, last):
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 50)
    features, gradients, _ = arrays(30, 5)
    features = features.astype(dtype)
    found = FeatureSet(write_features(features, gradients, cuts=(7, 20)), False)
    starts, rows = zip(*((start, rows.clone()) for start, rows in found.phi(first, last)), strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), features[first:last].astype(np.float32))
    assert list(starts) == np.cumsum([first, *map(len, rows[:-1])]).tolist()
    np.testing.assert_array_equal(found.loss_gradients(first, last), gradients[first:last])
    assert [start for start in found.starts if start in (0, 7, 20)] == [0, 7, 20]


def test_half_precision_is_read_as_float32(write_features):
    features, gradients, _ = arrays()
    ((_, rows, _),) = FeatureSet(write_features(features.astype(np.float16), gradients), False).rows()
    np.testing.assert_array_equal(rows.numpy(), features.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    "fact", ["stage", "version", "settings", "checkpoint", "checkpoint_content", "data_content", "dtype"]
)
def test_shards_made_differently_are_refused_by_naming_both(write_features, fact):
    features, gradients, _ = arrays()
    first = write_features(features, gradients, cuts=(4,), name="old")[0]
    facts = {"checkpoint": "old", "checkpoint_content": "old"} | {fact: "other"}
    second = write_features(features, gradients, cuts=(4,), name="new", **facts)[1]
    with pytest.raises(StoreError, match=rf"{second} and {first} do not belong together: '{fact}' is 'other'"):
        FeatureSet([first, second], False)


def test_gaps_overlaps_and_missing_ends_are_refused(write_features):
    features, gradients, _ = arrays()
    thirds = write_features(features, gradients, cuts=(4, 7))
    with pytest.raises(StoreError, match=rf"{thirds[2]} begins at example 7 where 4 was expected"):
        FeatureSet([thirds[0], thirds[2]], False)
    with pytest.raises(StoreError, match=rf"{thirds[1]} begins at example 4 where 0 was expected"):
        FeatureSet(thirds[1:], False)
    with pytest.raises(StoreError, match="end at example 7 of 10"):
        FeatureSet(thirds[:2], False)
    with pytest.raises(StoreError, match="begins at example 0 where 4 was expected"):
        FeatureSet([thirds[0], *thirds], False)


def test_weights_that_were_not_written_are_asked_for_in_vain(write_features):
    features, gradients, _ = arrays()
    with pytest.raises(StoreError, match=r"no curvature weights W; set solver\.weights=off"):
        FeatureSet(write_features(features, gradients), True)
