"""Both hooked sketches against explicit gradients, for every module rule alone and inside whole models."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import Sum, factorized, gradients, shapes_of, tensor_sketch
from torch import nn
from zoo import MODULES, Repeated, make

from trakflow.errors import ConfigError, SketchError
from trakflow.sketches.contributions import Elementwise, Kept
from trakflow.sketches.factorized import Factorized
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.sketches.routes import ON_A_CPU, ON_A_GPU, cheaper_route
from trakflow.sketches.rules import Rule, registry
from trakflow.sketches.tensor_sketch import TensorSketch

K, SIDE, SEED = 24, 4, 3
every_module = pytest.mark.parametrize("name", MODULES)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def assert_equal(found, expected):
    assert found.dtype == torch.float64
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.abs(found.numpy() - expected).max() <= 1e-9 * scale


def tensor_sketch_of(model, k=K, seed=SEED):
    return TensorSketch(model, Sum(), differentiated_parameters(model), k, seed)


@every_module
@pytest.mark.parametrize("route", ["fourier", "scatter"])
def test_tensor_sketch_is_the_explicit_scatter_by_either_route(name, route, monkeypatch):
    monkeypatch.setattr("trakflow.sketches.scatter.COMPILED_FROM", 0)
    monkeypatch.setattr("trakflow.sketches.tensor_sketch.cheaper_route", lambda *_: route)
    model, inputs = make(name)
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), K, SEED)
    assert_equal(tensor_sketch_of(model)({"inputs": inputs}).features, expected)


@every_module
def test_tensor_sketch_is_the_explicit_scatter_by_whole_batches(name, monkeypatch):
    monkeypatch.setattr("trakflow.sketches.tensor_sketch.starts_at_once", lambda device: False)
    model, inputs = make(name)
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), K, SEED)
    # One by one, a few at a time, and all of them.
    for bytes_at_once in (1, 1 << 15, 1 << 20):
        monkeypatch.setattr("trakflow.sketches.tensor_sketch.CHUNK_BYTES_ON_A_GPU", bytes_at_once)
        assert_equal(tensor_sketch_of(model)({"inputs": inputs}).features, expected)


@needs_gpu
@every_module
@pytest.mark.parametrize("route", ["fourier", "scatter"])
def test_on_a_gpu_tensor_sketch_is_the_explicit_scatter_by_either_route(name, route, monkeypatch):
    monkeypatch.setattr("trakflow.sketches.tensor_sketch.cheaper_route", lambda *_: route)
    model, inputs = make(name)
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), K, SEED)
    with torch.device("cuda"):  # for what modules make in their forward
        found = tensor_sketch_of(model.cuda())({"inputs": inputs.cuda()}).features
    assert_equal(found.cpu(), expected)


@needs_gpu
@every_module
def test_on_a_gpu_factorized_is_both_projections_of_the_gradient(name):
    model, inputs = make(name)
    expected = factorized(gradients(model, inputs), shapes_of(model), SIDE, SEED)
    with torch.device("cuda"):
        parameters = differentiated_parameters(model.cuda())
        found = Factorized(model, Sum(), parameters, SIDE, None, SEED)({"inputs": inputs.cuda()}).features
    assert_equal(found.cpu(), expected)


@every_module
@pytest.mark.parametrize("route", ["fourier", "scatter"])
def test_compiled_kernels_and_torch_give_the_same_bits(name, route, monkeypatch):
    monkeypatch.setattr("trakflow.sketches.tensor_sketch.cheaper_route", lambda *_: route)
    monkeypatch.setattr("trakflow.sketches.hashing.LARGE", 40)
    model, inputs = make(name)
    found = []
    for first in (0, 1 << 62):
        monkeypatch.setattr("trakflow.sketches.scatter.COMPILED_FROM", first)
        found.append(tensor_sketch_of(model)({"inputs": inputs}).features)
    assert torch.equal(*found)


@every_module
@pytest.mark.parametrize("side", [SIDE, 1000])
def test_factorized_is_both_projections_of_the_gradient(name, side):
    model, inputs = make(name)
    expected = factorized(gradients(model, inputs), shapes_of(model), side, SEED)
    found = Factorized(model, Sum(), differentiated_parameters(model), side, None, SEED)({"inputs": inputs}).features
    assert found.shape == expected.shape
    assert_equal(found, expected)


@every_module
def test_features_do_not_depend_on_the_batch_and_both_routes_agree_in_float32(name, monkeypatch):
    model, inputs = make(name, count=5)
    model, inputs = model.float(), inputs.float() if inputs.is_floating_point() else inputs
    sketch = tensor_sketch_of(model)
    whole = sketch({"inputs": inputs}).features
    assert whole.dtype == torch.float32
    tolerance = {"rtol": 0, "atol": 2e-6 * float(whole.abs().max()) * max(1, len(inputs[0].flatten()) ** 0.5)}
    for size in (1, 2, 3):
        parts = [sketch({"inputs": inputs[start : start + size]}).features for start in range(0, 5, size)]
        torch.testing.assert_close(torch.cat(parts), whole, **tolerance)
    for route in ("fourier", "scatter"):
        monkeypatch.setattr("trakflow.sketches.tensor_sketch.cheaper_route", lambda *_, route=route: route)
        torch.testing.assert_close(sketch({"inputs": inputs}).features, whole, **tolerance)


class Scale(nn.Module):
    """A type of module that no rule covers."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.full((5,), 2.0, dtype=torch.float64))

    def forward(self, inputs):
        return inputs * self.factor


def test_an_uncovered_module_is_named_with_its_type_and_two_ways_out():
    model = nn.Sequential(nn.Linear(5, 5), Scale()).double()
    for make_sketch in (
        tensor_sketch_of,
        lambda model: Factorized(model, Sum(), differentiated_parameters(model), 4, None, 0),
    ):
        with pytest.raises(SketchError, match=r"Module 1 \(.*Scale\) .*factor.*sketch=sjlt.*register_rule"):
            make_sketch(model)


def test_the_documented_rule_covers_a_type_and_left_out_parameters_need_none(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    page = (Path(__file__).parents[2] / "docs/sketches.md").read_text(encoding="utf8")
    documented = {}
    exec(re.search(r"<!-- file: rules.py -->\n```python\n(.*?)```", page, re.S)[1], documented)
    torch.manual_seed(0)
    inputs = torch.randn(4, 5, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(5, 5), documented["Scale"](5)).double()
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), K, SEED)
    assert_equal(tensor_sketch_of(model)({"inputs": inputs}).features, expected)
    uncovered = nn.Sequential(nn.Linear(5, 5), Scale()).double()
    TensorSketch(uncovered, Sum(), differentiated_parameters(uncovered, ["0.*"]), K, SEED)({"inputs": inputs})


class Doubled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, inputs):
        return super().forward(inputs) * 2


class Named(nn.Linear):
    """A subclass that computes the same."""


def test_a_subclass_shares_the_rule_only_if_it_computes_the_same():
    inputs = torch.randn(3, 5, dtype=torch.float64)
    assert tensor_sketch_of(Named(5, 2).double())({"inputs": inputs}).features.shape == (3, K)
    with pytest.raises(SketchError, match="Doubled"):
        tensor_sketch_of(Doubled(5, 2))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (lambda: nn.BatchNorm1d(4, track_running_stats=False), "running statistics"),
        (lambda: nn.Embedding(4, 3, max_norm=1.0), "max_norm"),
        (lambda: nn.Embedding(4, 3, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True), "bias_k"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "original0"),
    ],
)
def test_settings_that_a_rule_does_not_cover_are_refused(module, reason):
    with pytest.raises(SketchError, match=reason):
        tensor_sketch_of(module())


@pytest.mark.parametrize("chosen", [["*.weight"], ["*in_proj*"], ["encoder.layers.1.self_attn.out_proj.bias"]])
def test_attention_may_be_chosen_in_part(chosen):
    model, inputs = make("tied transformer")
    parameters = differentiated_parameters(model, chosen)
    found = {name: value for name, value in gradients(model, inputs).items() if name in parameters}
    expected = tensor_sketch(found, shapes_of(model), K, SEED)
    assert_equal(TensorSketch(model, Sum(), parameters, K, SEED)({"inputs": inputs}).features, expected)


class Frozen(nn.Module):
    """Runs its first layer without gradients, though its parameters ask for them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, inputs):
        with torch.no_grad():
            hidden = self.first(inputs)
        return self.second(hidden)


def test_a_layer_run_without_gradients_has_a_gradient_of_zero():
    torch.manual_seed(0)
    model, inputs = Frozen().double(), torch.randn(4, 5, dtype=torch.float64)
    expected = tensor_sketch(gradients(model, inputs), shapes_of(model), K, SEED)
    assert_equal(tensor_sketch_of(model)({"inputs": inputs}).features, expected)


class Autocast(nn.Module):
    """Computes in bfloat16 where torch thinks fit."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8))
        self.last = nn.Linear(8, 3)

    def forward(self, inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return self.last(self.layers(inputs)).float()


@pytest.mark.parametrize("kind", ["autocast", "bfloat16"])
def test_half_precision_models_give_float32_features_near_the_exact_ones(kind):
    torch.manual_seed(0)
    model = Autocast() if kind == "autocast" else make("attention")[0].bfloat16()
    inputs = torch.randn(4, 1, 5, 5) if isinstance(model, Autocast) else torch.randn(4, 5, 8).bfloat16()
    for sketch in (
        tensor_sketch_of(model),
        Factorized(model, Sum(), differentiated_parameters(model), SIDE, None, SEED),
    ):
        features = sketch({"inputs": inputs}).features
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()
    exact = copy.deepcopy(model).double()
    exact = nn.Sequential(exact.layers, exact.last) if isinstance(exact, Autocast) else exact
    expected = tensor_sketch(
        dict(zip(shapes_of(model), gradients(exact, inputs.double()).values(), strict=True)), shapes_of(model), K, SEED
    )
    found = tensor_sketch_of(model)({"inputs": inputs}).features.numpy()
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


class Selected(nn.Module):
    """Gives a layer only the tokens that are not padding."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(11, 5), nn.Linear(5, 3)

    def forward(self, inputs):
        kept = inputs > 0
        rows = self.layer(self.embedding(inputs)[kept])
        output = torch.zeros(*inputs.shape, 3, dtype=rows.dtype)
        output[kept] = rows
        return output


def test_examples_with_different_numbers_of_rows_are_refused():
    torch.manual_seed(0)
    sketch = tensor_sketch_of(Selected())
    full = torch.randint(1, 11, (2, 4))
    sketch({"inputs": full})
    ragged = full.clone()
    ragged[0, 3] = 0
    with pytest.raises(SketchError, match=r"layer has shape \(7, 5\) for 2 examples.*Pad them"):
        sketch({"inputs": ragged})


def test_a_scalar_parameter_may_have_a_rule(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

        def forward(self, inputs):
            return inputs * self.value

    class TemperatureRule(Rule):
        covers = frozenset({"value"})

        def contributions(self, call, inputs):
            kept = Kept(inputs, call.path)
            sums = lambda gradient: (gradient * kept.get()).reshape(call.batch, -1).sum(dim=1, keepdim=True)  # noqa: E731
            return [Elementwise(call.names["value"], sums)]

    registry.register_rule(Temperature, TemperatureRule())
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(5, 5).double(), Temperature()), torch.randn(3, 5, dtype=torch.float64)
    for sketch in (
        tensor_sketch_of(model),
        Factorized(model, Sum(), differentiated_parameters(model), 1000, None, SEED),
    ):
        assert torch.isfinite(sketch({"inputs": inputs}).features).all()


def test_a_second_stage_that_would_not_make_features_fewer_is_refused():
    model, _ = make("resnet9", 1)
    with pytest.raises(ConfigError, match=r"sketch\.k=100000 is not smaller than the \d+ features that side=4 gives"):
        Factorized(model, Sum(), differentiated_parameters(model), SIDE, 100_000, SEED)


class Functional(nn.Module):
    """Uses a weight outside its module's forward."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)

    def forward(self, inputs):
        return nn.functional.linear(self.first(inputs), self.first.weight)


class Mixed(nn.Module):
    """Lets examples influence each other."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return hidden * (1 + hidden.mean(dim=0))


class Overwrites(nn.Module):
    """Changes a module's input after it was used."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, inputs):
        hidden = self.first(inputs)
        output = self.second(hidden)
        hidden += 1
        return output + hidden


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Functional, "first.weight.* are not the model's"),
        (Mixed, "are not the model's"),
        (Overwrites, "input of second was modified in place"),
    ],
)
def test_a_model_whose_gradients_the_rules_do_not_give_is_refused_at_its_first_batch(model, reason):
    torch.manual_seed(0)
    with pytest.raises(SketchError, match=reason):
        tensor_sketch_of(model())({"inputs": torch.randn(4, 5)})


def test_a_model_is_left_as_it_was_even_after_an_error():
    torch.manual_seed(0)
    for build in (Functional, Repeated):
        model = build()
        model.first.bias.requires_grad_(False)
        sketch = tensor_sketch_of(model)
        try:
            sketch({"inputs": torch.randn(4, model.first.in_features)})
        except SketchError:
            assert build is Functional
        assert "forward" not in model.first.__dict__
        assert [name for name, value in model.named_parameters() if value.requires_grad] == ["first.weight"]
        assert all(value.grad is None for value in model.parameters())
        assert torch.backends.mha.get_fastpath_enabled()


def test_the_second_stage_is_the_sparse_transform_of_the_first():
    model, inputs = make("resnet9", 3)
    first = Factorized(model, Sum(), differentiated_parameters(model), SIDE, None, SEED)
    second = Factorized(model, Sum(), differentiated_parameters(model), SIDE, 16, SEED)
    blocks, features = (sketch({"inputs": inputs}).features for sketch in (first, second))
    assert features.shape == (3, second.k) == (3, 16)
    matrix = torch.zeros(first.k, 16, dtype=torch.float64)
    second._second.add(matrix, "blocks", torch.eye(first.k, dtype=torch.float64))
    assert (matrix != 0).sum() == first.k
    torch.testing.assert_close(features, blocks @ matrix)


def test_the_route_is_a_function_of_the_layer_and_the_kind_of_device_alone():
    assert cheaper_route(384, 1536, 2048, True, ON_A_CPU) == "fourier"
    assert cheaper_route(50_000, 768, 2048, True, ON_A_CPU) == "fourier"
    assert cheaper_route(128, 784, 2048, False, ON_A_CPU) == "fourier"
    assert cheaper_route(10, 128, 2048, False, ON_A_CPU) == "scatter"
    assert cheaper_route(128, 128, 100_000, True, ON_A_CPU) == "scatter"
    assert cheaper_route(384, 384, 2048, True, ON_A_GPU) == "scatter"
    assert cheaper_route(768, 3072, 2048, True, ON_A_GPU) == "fourier"
    assert cheaper_route(128, 784, 2048, False, ON_A_GPU) == "scatter"
    assert cheaper_route(4096, 4096, 2048, False, ON_A_GPU) == "fourier"


def test_patterns_choose_parameters_and_a_pattern_that_matches_none_is_refused():
    model, _ = make("resnet9", 1)
    assert list(differentiated_parameters(model, ["9.*", "0.0.*"])) == ["0.0.weight", "9.weight"]
    assert set(differentiated_parameters(model, ["*"])) == set(shapes_of(model))
    with pytest.raises(ConfigError, match=r"'\*\.kernel' matches no parameter.*0\.0\.weight"):
        differentiated_parameters(model, ["9.*", "*.kernel"])
    with pytest.raises(ConfigError, match="requires_grad"):
        differentiated_parameters(model.requires_grad_(False))
