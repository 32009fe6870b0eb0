import numpy as np
import pytest
import torch
from torch import nn

from trakflow.config.compose import compose_config
from trakflow.config.training import Training
from trakflow.errors import ConfigError
from trakflow.models.mlp import MLP
from trakflow.seeds import derive_seed
from trakflow.stages.common import model_factory
from trakflow.tasks.classification import Classification
from trakflow.training import ensemble
from trakflow.training.ensemble import ensemble_outputs, train_ensemble
from trakflow.training.sgd import make_model

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 0.01}


def mlp():
    return MLP(6, [7, 5], 3).double()


def normalised():
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).double()


def frozen():
    model = mlp()
    model.layers[1].requires_grad_(False)
    return model


COMMON = torch.linspace(-1, 1, 42, dtype=torch.float64).reshape(7, 6)


def in_common():
    """Untrained weights that all models share in memory, and a constant that no checkpoint holds."""
    model = mlp()
    model.layers[1].weight = nn.Parameter(COMMON, requires_grad=False)
    del model.layers[1].bias
    model.layers[1].register_buffer("bias", torch.ones(7, dtype=torch.float64), persistent=False)
    return model


def partly_unused():
    model = mlp()
    model.unused = nn.Linear(2, 2).double()
    return model


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 3, 4), nn.Flatten()
    ).double()


class Branching(nn.Module):
    """Decides by its input's value, which no vmap can follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3).double()

    def forward(self, inputs):
        return self.layer(inputs) if float(inputs.sum()) > 0 else self.layer(-inputs)


def arrays(count=40):
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, dtype=torch.float64, generator=random)
    return {"inputs": inputs, "labels": torch.randint(0, 3, (count,), generator=random)}


def masks():
    # Halves of 20 in batches of 8: the last of an epoch is smaller.
    return np.stack([np.random.default_rng(number).permutation(40) < 20 for number in range(4)])


def train(factory, seeds=(1, 2, 3, 4), **settings):
    return train_ensemble(factory, Classification(), arrays(), masks(), Training(**{**SETTINGS, **settings}), seeds)


@pytest.mark.parametrize("factory", [mlp, normalised, frozen, in_common, partly_unused, convolutional])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_stacked_ensemble_trains_as_its_models_would_one_by_one(factory, schedule):
    stacked = train(factory, schedule=schedule)
    alone = train(factory, schedule=schedule, ensemble=False)
    assert stacked.keys() == alone.keys() == factory().state_dict().keys()
    for name, value in alone.items():
        assert stacked[name].dtype == value.dtype
        assert stacked[name].is_contiguous()
        torch.testing.assert_close(stacked[name], value, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("experiment", ["digits", "fashion_mnist"])
def test_both_recipes_train_stacked_as_one_by_one(experiment):
    config = compose_config(experiment)
    settings = config.training.model_copy(update={"epochs": 2})
    assert settings.momentum
    assert settings.weight_decay
    assert settings.schedule != "constant"
    # Two whole batches and a smaller one an epoch.
    chosen = 2 * settings.batch_size + 9
    random = torch.Generator().manual_seed(0)
    data = {
        "inputs": torch.rand(2 * chosen, config.model["inputs"], dtype=torch.float64, generator=random),
        "labels": torch.randint(0, 10, (2 * chosen,), generator=random),
    }
    subsets = np.stack([np.random.default_rng(number).permutation(2 * chosen) < chosen for number in range(3)])

    def double():
        return model_factory(config)().double()

    stacked, alone = (
        train_ensemble(
            double, Classification(), data, subsets, settings.model_copy(update={"ensemble": together}), (1, 2, 3)
        )
        for together in (True, False)
    )
    for name, value in alone.items():
        torch.testing.assert_close(stacked[name], value, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("factory", [mlp, normalised])
@pytest.mark.parametrize(("smallest", "groups"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [2, 2]), (4, [4])])
def test_weights_do_not_depend_on_how_many_models_are_stacked_at_once(monkeypatch, factory, smallest, groups):
    together = train(factory)
    sizes = []
    in_common = ensemble._in_common
    monkeypatch.setattr(ensemble, "_in_common", lambda models: sizes.append(len(models)) or in_common(models))
    monkeypatch.setattr(ensemble, "CACHE_BYTES", 1)
    monkeypatch.setattr(ensemble, "SMALLEST_GROUP", smallest)
    apart = train(factory)
    assert sizes == groups
    for name, value in together.items():
        torch.testing.assert_close(apart[name], value, rtol=1e-10, atol=1e-14)


def test_groups_hold_what_the_cache_does_but_never_too_few_models():
    settings = Training(**SETTINGS)

    def size(width, device="cpu"):
        data = {"inputs": torch.empty(40, 1000, device=device)}
        return ensemble._group_size(50, nn.Linear(1000, width), data, settings)

    assert size(1) == 50
    # Weights, gradients and momenta of 4 x 200,200 bytes each, and a batch of 8 x 4,000.
    assert size(200) == ensemble.CACHE_BYTES // (3 * 4 * 200_200 + 32_000)
    assert size(20_000) == ensemble.SMALLEST_GROUP
    assert size(20_000, device="meta") == 50


def test_models_differ_by_subset_and_by_seed_and_all_have_moved():
    stacked = train(mlp, seeds=(1, 1, 1, 2))
    weights = stacked["layers.1.weight"]
    start = make_model(mlp, derive_seed(1, "init")).state_dict()["layers.1.weight"]
    for left in range(4):
        assert not torch.allclose(weights[left], start)
        for right in range(left):
            assert not torch.allclose(weights[left], weights[right])


def test_a_model_that_cannot_be_stacked_says_which_setting_trains_it():
    with pytest.raises(ConfigError, match=r"cannot be trained as a stacked ensemble.*training\.ensemble=false"):
        train(Branching)
    assert train(Branching, ensemble=False)["layer.weight"].shape == (4, 3, 6)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_outputs_are_those_of_each_model_in_evaluation_mode(batch_size):
    state, data = train(normalised), arrays(11)
    found = ensemble_outputs(normalised, Classification(), state, data, batch_size)
    assert found.shape == (4, 11)
    assert found.dtype == torch.float32
    for number in range(4):
        model = normalised().eval()
        model.load_state_dict({name: value[number] for name, value in state.items()})
        p = torch.softmax(model(data["inputs"]), dim=1)[range(11), data["labels"]]
        torch.testing.assert_close(found[number].double(), torch.log(p / (1 - p)), rtol=1e-5, atol=1e-5)
