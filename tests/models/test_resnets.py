"""ResNet-9 and ResNet-18: their published sizes, an independent ResNet-18, stacked training, and pixels as bytes."""

import re

import numpy as np
import pytest
import torch
from oracle import Sum, gradients, shapes_of, tensor_sketch
from torch import nn

from trakflow.config.attribution import Sketch
from trakflow.config.training import Training
from trakflow.errors import ConfigError
from trakflow.models.pixels import NormalisedPixels
from trakflow.models.resnet9 import ResNet9
from trakflow.models.resnet18 import IMAGENET_DEVIATION, IMAGENET_MEAN, ResNet18
from trakflow.sketches.build import build_sketch
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.sketches.tensor_sketch import TensorSketch
from trakflow.tasks.classification import Classification
from trakflow.training.ensemble import train_ensemble


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def unsettled(model):
    """With statistics, scales and shifts of normalisations as training leaves them: not 0 and 1."""
    random = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                value.data.uniform_(0.5, 1.5, generator=random)
    return model.double().eval()


def images(count, side, dtype=torch.float64):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(2), dtype=dtype)


def test_resnet9_has_the_sizes_that_are_published_and_documented():
    assert size(ResNet9(10)) == 2_274_880
    assert size(ResNet9(2, width=8)) == 36_040
    assert ResNet9(4, width=2, channels=1)(torch.zeros(3, 1, 28, 28)).shape == (3, 4)


def test_resnet9_is_its_layers_applied_one_after_another():
    torch.manual_seed(0)
    model = unsettled(ResNet9(3, width=2))
    state, inputs = model.state_dict(), images(2, 32)

    def block(values, name, padding=1, stride=1):
        values = nn.functional.conv2d(values, state[f"layers.{name}.0.weight"], None, stride, padding)
        mean, variance, weight, bias = (
            state[f"layers.{name}.1.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((values - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)

    values = block(block(inputs, "0"), "1", padding=2, stride=2)
    values = values + block(block(values, "2.layers.0"), "2.layers.1")
    values = block(values, "3").unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
    values = values + block(block(values, "5.layers.0"), "5.layers.1")
    values = block(values, "6", padding=0).amax(dim=(2, 3))
    torch.testing.assert_close(model(inputs), 0.2 * values @ state["layers.9.weight"].T)


def test_resnet9_trains_stacked_as_one_by_one_with_statistics_of_each_models_own():
    data = {"inputs": images(24, 12), "labels": torch.arange(24) % 2}
    masks = np.stack([np.random.default_rng(number).permutation(24) < 12 for number in range(3)])
    recipe = {"epochs": 2, "batch_size": 5, "learning_rate": 0.1, "weight_decay": 0.01}
    stacked, alone = (
        train_ensemble(
            lambda: ResNet9(2, width=2).double(),
            Classification(),
            data,
            masks,
            Training(**recipe, ensemble=together),
            (1, 2, 3),
        )
        for together in (True, False)
    )
    assert not torch.allclose(alone["layers.0.1.running_mean"][0], alone["layers.0.1.running_mean"][1])
    for name, value in alone.items():
        torch.testing.assert_close(stacked[name], value, rtol=1e-7, atol=1e-10)


def test_the_default_sketch_is_that_of_explicit_gradients():
    torch.manual_seed(0)
    model, inputs = unsettled(ResNet9(3, width=2)), images(3, 16)
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), 24, 3)
    found = TensorSketch(model, Sum(), differentiated_parameters(model), 24, 3)({"inputs": inputs}).features
    assert np.abs(found.numpy() - expected).max() <= 1e-9 * np.abs(expected).max()


def test_the_sketches_gradients_of_resnet18_are_those_of_autograd():
    torch.manual_seed(0)
    model, inputs = unsettled(ResNet18(3)), images(2, 32)
    chosen = ["layer4.1.bn2.weight", "layer2.0.downsample.1.bias", "fc.bias", "bn1.weight"]
    parameters = differentiated_parameters(model, chosen)
    assert sorted(parameters) == sorted(chosen)
    found = TensorSketch(model, Sum(), parameters, 24, 3)({"inputs": inputs}).features
    whole, shapes = gradients(model, inputs), shapes_of(model)
    expected = tensor_sketch({name: whole[name] for name in chosen}, {name: shapes[name] for name in chosen}, 24, 3)
    assert np.abs(found.numpy() - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher", "identity"])
def test_every_sketch_takes_the_models_and_bytes_give_the_features_of_normalised_floats(name):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    model = nn.Sequential(
        NormalisedPixels(IMAGENET_MEAN, IMAGENET_DEVIATION), unsettled(ResNet9(4, width=2)).float()
    ).eval()
    settings = {"identity": {}, "factorized": {"side": 4}}.get(name, {"k": 16})
    sketch = build_sketch(Sketch(name=name, **settings), model, Classification(), 0, 0, "cpu")
    labels = torch.tensor([0, 3, 1])
    features = sketch({"inputs": pixels, "labels": labels}).features
    assert float(features.abs().max()) > 0
    floats = (pixels / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_DEVIATION)[
        :, None, None
    ]
    torch.testing.assert_close(sketch({"inputs": floats, "labels": labels}).features, features, rtol=1e-4, atol=1e-4)


def transformers_name(name):
    """Where another implementation of the architecture keeps what torchvision calls `name`."""
    name = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
    name = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", name)
    name = re.sub(r"^fc\.", "classifier.1.", name)

    def block(found):
        stage, number, kind, part = int(found[1]) - 1, found[2], found[3], int(found[4]) - 1
        layer = {"conv": "convolution", "bn": "normalization"}[kind]
        return f"resnet.encoder.stages.{stage}.layers.{number}.layer.{part}.{layer}."

    name = re.sub(r"^layer(\d)\.(\d)\.(conv|bn)(\d)\.", block, name)

    def shortcut(found):
        layer = ("convolution", "normalization")[int(found[3])]
        return f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}.shortcut.{layer}."

    return re.sub(r"^layer(\d)\.(\d)\.downsample\.(\d)\.", shortcut, name)


def test_resnet18_is_the_published_architecture_under_torchvisions_names():
    transformers = pytest.importorskip("transformers")
    settings = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
    torch.manual_seed(0)
    other = unsettled(
        transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=64, num_labels=7, **settings)
        )
    )
    model, theirs = ResNet18(7), other.state_dict()
    names = model.state_dict().keys()
    assert {transformers_name(name) for name in names} == theirs.keys()
    model.load_state_dict({name: theirs[transformers_name(name)] for name in names}, strict=True)
    model = model.double().eval()
    inputs = images(2, 64)
    torch.testing.assert_close(model(inputs), other(pixel_values=inputs).logits)


def test_resnet18_has_the_entries_of_a_published_checkpoint():
    model = ResNet18()
    assert size(model) == 11_689_512
    assert len(model.state_dict()) == 122
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
    } < model.state_dict().keys()
    assert {"layer4.1.bn2.num_batches_tracked", "fc.weight", "fc.bias"} < model.state_dict().keys()


def test_bytes_are_normalised_by_channel_and_floats_pass():
    layer = NormalisedPixels([0.5, 0.25, 0.0], [0.5, 0.25, 2.0])
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 1, 1)
    assert layer(pixels)[0].flatten().tolist() == pytest.approx([-1.0, -0.2, 0.5])
    floats = torch.randn(2, 3, 4, 4)
    assert layer(floats) is floats
    assert layer.state_dict() == {}
    assert layer.double()(pixels).dtype == torch.float64


@pytest.mark.parametrize(("mean", "deviation"), [([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5], [-1.0])])
def test_impossible_statistics_are_refused(mean, deviation):
    with pytest.raises(ConfigError, match=r"mean=.*deviation=.*positive"):
        NormalisedPixels(mean, deviation)
