"""`TRAKer.group_scores` against sums of its scores by numpy."""

import numpy as np
import pytest
import torch
from traker_problem import TRAIN, N, featurize, score, traker

from trakflow.errors import ConfigError, DataError, StoreError
from trakflow.traker import groups as module


def scored(folder):
    attributor = featurize(traker(folder))
    attributor.finalize_features()
    return attributor, np.array(score(attributor))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_scores_of_groups_are_sums_of_scores(tmp_path, monkeypatch, kind):
    attributor, scores = scored(tmp_path)
    # A few rows at a time.
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * scores.shape[1] * 7)
    labels = TRAIN[1].tolist()
    names, sizes, found = attributor.group_scores("test", kind(labels))
    assert names == [str(label) for label in dict.fromkeys(labels)]
    assert sizes.tolist() == [labels.count(int(name)) for name in names]
    for name, row in zip(names, found, strict=True):
        expected = scores[TRAIN[1].numpy() == int(name)].sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_summed_is_refused(tmp_path):
    attributor, _ = scored(tmp_path)
    with pytest.raises(DataError, match=rf"groups names 3 examples, but train_set_size is {N}"):
        attributor.group_scores("test", ["a", "b", "c"])
    with pytest.raises(DataError, match="groups is str; give a sequence of names"):
        attributor.group_scores("test", "a" * N)
    with pytest.raises(ConfigError, match="exp_name='other' has not been scored"):
        attributor.group_scores("other", ["a"] * N)
    attributor.save_dir.joinpath("scores", "test.npy").unlink()
    with pytest.raises(StoreError, match=r"no scores of exp_name='test'.*call finalize_scores first"):
        attributor.group_scores("test", ["a"] * N)
