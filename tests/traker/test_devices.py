"""TRAKers of models on another device than the batches; these need a GPU."""

import numpy as np
import pytest
import torch
from traker_problem import TRAIN, featurize, model, score, scores, traker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("projector", ["tensor_sketch", "sjlt", "gaussian", "rademacher", "identity"])
def test_batches_from_the_cpu_to_a_model_on_a_gpu_give_the_cpus_scores(tmp_path, projector):
    size = {} if projector == "identity" else {"proj_dim": 16}
    expected = scores(tmp_path / "cpu", projector=projector, **size)
    found = scores(tmp_path / "gpu", model=model().cuda(), device="cuda", projector=projector, **size)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_batches_from_a_gpu_to_a_model_on_the_cpu_give_the_same_scores(tmp_path):
    expected = scores(tmp_path / "cpu", proj_dim=16)
    attributor = featurize(traker(tmp_path / "other", proj_dim=16), arrays=tuple(array.cuda() for array in TRAIN))
    attributor.finalize_features()
    np.testing.assert_array_equal(np.array(score(attributor)), expected)


def test_a_model_on_a_gpu_moves_to_the_device_that_is_asked_for(tmp_path):
    expected = scores(tmp_path / "cpu", proj_dim=16)
    np.testing.assert_array_equal(scores(tmp_path / "moved", model=model().cuda(), proj_dim=16), expected)
