"""Models in other types than the data: features close to those of the same weights in single precision.

Half precision keeps 8 (bfloat16) or 11 bits (float16) of each number that a layer passes on; an error of a few units in
the last place a layer is what is tolerated here.
"""

import copy

import pytest
import torch
from torch import nn

from trakflow.config.compose import compose_config
from trakflow.errors import ConfigError
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification
from trakflow.tasks.regression import Regression
from trakflow.tasks.running import floating_type, run_model, try_model

# Of the norm of an example's features, or of the output.
TOLERANCES = {torch.bfloat16: 5e-2, torch.float16: 6e-3, torch.float64: 2e-6}
SKETCHES = ["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher", "identity"]
N = 5


class Net(nn.Module):
    """Every kind of layer that computes in half precision on a CPU."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(4 * 16, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))

    def forward(self, inputs):
        return self.layers(torch.relu(self.norm(self.convolution(inputs))))


def model(dtype=torch.float32):
    torch.manual_seed(0)
    return Net().eval().to(dtype)


def rounded(dtype):
    """The weights that a type keeps, in single precision."""
    return model(dtype).to(torch.float32)


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(N, 2, 4, 4, generator=generator).to(torch.bfloat16)  # exact in all of the types
    return {"inputs": images.to(dtype), "labels": torch.randint(3, (N,), generator=generator)}


def sketched(network, name, examples, task=None):
    needs = {"identity": ["sketch.k=null"], "factorized": ["sketch.side=4"]}.get(name, ["sketch.k=64"])
    settings = compose_config("digits", [f"sketch={name}", *needs]).sketch
    return build_sketch(settings, network, task or Classification(), 0, 0, "cpu")(examples)


def error(found, expected):
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@pytest.mark.parametrize("name", SKETCHES)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_features_are_those_of_single_precision(dtype, name):
    network = model(dtype)
    found, expected = sketched(network, name, batch()), sketched(rounded(dtype), name, batch())
    assert error(found.features, expected.features) < TOLERANCES[dtype]
    for column in ("outputs", "loss_gradients", "curvatures"):
        values, wanted = getattr(found, column), getattr(expected, column)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, wanted, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    # The user's model is as it was.
    assert {value.dtype for value in network.parameters()} == {dtype}
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("name", ["tensor_sketch", "sjlt"])
@pytest.mark.parametrize("data", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_data_of_another_type_than_the_model_are_brought_to_it(data, name):
    found, expected = sketched(model(), name, batch(data)), sketched(model(), name, batch())
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.outputs, expected.outputs)


def test_the_output_is_computed_in_single_precision_from_what_a_half_model_returns():
    network = model(torch.bfloat16)
    examples = batch()
    raw = network(examples["inputs"].bfloat16()).detach()
    expected = Classification().output(raw.float(), examples)
    assert torch.equal(sketched(network, "tensor_sketch", examples).outputs, expected)
    # One example at a time rounds otherwise; but no output is one of the few numbers of the model's type.
    outputs = sketched(network, "sjlt", examples).outputs
    assert not torch.equal(outputs.bfloat16().float(), outputs)


def test_values_to_regress_on_keep_their_digits():
    network = nn.Sequential(nn.Flatten(), nn.Linear(32, 1)).to(torch.bfloat16)
    examples = {"inputs": batch()["inputs"], "values": torch.tensor([1.0001, 1.0002, 1.0003, 1.0004, 1.0005])}
    found = sketched(network, "tensor_sketch", examples, Regression())
    assert torch.equal(found.loss_gradients, examples["values"] - found.outputs)
    assert len(set((found.loss_gradients + found.outputs).tolist())) == N


def test_integers_reach_the_model_as_they_are():
    seen = {}

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, inputs):
            seen["dtype"] = inputs.dtype
            return self.layer(inputs.to(self.layer.weight.dtype) / 255)

    network = Watching().to(torch.float64)
    examples = {"inputs": torch.randint(256, (N, 4), dtype=torch.uint8), "labels": batch()["labels"]}
    found = sketched(network, "tensor_sketch", examples)
    assert seen["dtype"] == torch.uint8
    in_single = copy.deepcopy(network).float()
    assert error(found.features, sketched(in_single, "tensor_sketch", examples).features) < 1e-5


def test_a_model_that_takes_no_bytes_is_refused_with_what_to_do():
    examples = {"inputs": torch.zeros(N, 2, 4, 4, dtype=torch.uint8), "labels": batch()["labels"]}
    with pytest.raises(ConfigError, match=r"cannot take one example \(inputs \(1, 2, 4, 4\).*bytes.*NormalisedPixels"):
        try_model(Classification(), model(), examples, "The model")


def test_what_a_model_returns_in_less_than_single_precision_is_brought_to_it():
    network = model(torch.float16)
    assert floating_type(network) == torch.float16
    assert run_model(Classification(), network, batch(), torch.float16).dtype == torch.float32
    assert floating_type(nn.ReLU()) is None
    double = model(torch.float64)
    assert run_model(Classification(), double, batch(), torch.float64).dtype == torch.float64
