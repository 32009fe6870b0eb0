"""TRAKers of models in other types than the batches."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from traker_problem import BATCH, TARGETS, TRAIN, checkpoints, featurize, model, score, scores, traker

from trakflow.errors import ConfigError


def cast(state, dtype):
    return {name: value.to(dtype) for name, value in state.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
def test_features_are_those_of_the_same_weights_in_single_precision(tmp_path, dtype, tolerance):
    own = model().to(dtype)
    states = [cast(state, dtype) for state in checkpoints()]
    for name, network, given in (
        ("own", own, states),
        ("single", model(), [cast(state, torch.float32) for state in states]),
    ):
        featurize(traker(tmp_path / name, model=network, proj_dim=16), given).finalize_features()
    for model_id in (0, 1):
        found, expected = (
            load_file(tmp_path / name / "features" / str(model_id) / "0.safetensors") for name in ("own", "single")
        )
        for name in ("features", "outputs", "loss_gradients", "curvatures"):
            assert found[name].dtype == torch.float32
            assert float((found[name] - expected[name]).norm() / expected[name].norm()) < tolerance, name
    assert {value.dtype for value in own.parameters()} == {dtype}


@pytest.mark.parametrize("kind", ["float64 tensors", "numpy"])
def test_batches_of_another_type_give_the_same_scores(tmp_path, kind):
    def convert(arrays):
        inputs, labels = arrays
        # Exact: single precision is a part of double.
        return (inputs.double(), labels) if kind == "float64 tensors" else (inputs.double().numpy(), labels.numpy())

    expected = scores(tmp_path / "plain")
    attributor = featurize(traker(tmp_path / "other"), arrays=convert(TRAIN))
    attributor.finalize_features()
    np.testing.assert_array_equal(np.array(score(attributor, arrays=convert(TARGETS))), expected)


def test_a_model_that_cannot_take_a_batch_is_refused_in_a_sentence(tmp_path):
    attributor = traker(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], 0)
    inputs, labels = (array[:BATCH] for array in TRAIN)
    with pytest.raises(ConfigError, match=r"The model cannot take one example \(inputs \(1, 4\), labels \(1,\)\)"):
        attributor.featurize((inputs[:, :4], labels), num_samples=BATCH)
    with pytest.raises(ConfigError, match=r"cannot take one example.*'inputs' are bytes.*NormalisedPixels"):
        attributor.featurize((inputs.to(torch.uint8), labels), num_samples=BATCH)
    attributor.featurize((inputs, labels), num_samples=BATCH)
