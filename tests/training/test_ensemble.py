import numpy as np
import pytest
import torch
from torch import nn

from trakflow.config.schema import Training
from trakflow.errors import ConfigError
from trakflow.models.mlp import MLP
from trakflow.seeds import derive_seed
from trakflow.tasks.classification import Classification
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


@pytest.mark.parametrize("factory", [mlp, normalised, frozen])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_stacked_ensemble_trains_as_its_models_would_one_by_one(factory, schedule):
    stacked = train(factory, schedule=schedule)
    alone = train(factory, schedule=schedule, ensemble=False)
    assert stacked.keys() == alone.keys() == factory().state_dict().keys()
    for name, value in alone.items():
        assert stacked[name].dtype == value.dtype
        torch.testing.assert_close(stacked[name], value, rtol=1e-8, atol=1e-12)


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
