"""Stacked training by a loss in which the examples of a batch meet, and outputs of models with their own references."""

import numpy as np
import pytest
import torch

from pairs import pairs, tiny_model
from trakflow.config.training import Training
from trakflow.errors import ConfigError
from trakflow.tasks.clip import CLIP
from trakflow.tasks.preparation import prepared
from trakflow.training.ensemble import ensemble_outputs, train_ensemble

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01}


def trained(ensemble):
    masks = np.stack([np.random.default_rng(number).permutation(40) < 20 for number in range(3)])
    settings = Training(**SETTINGS, ensemble=ensemble)
    return train_ensemble(lambda: tiny_model(torch.initial_seed()), CLIP(), pairs(40, 1), masks, settings, (1, 2, 3))


def test_a_stacked_ensemble_trains_as_its_models_would_one_by_one():
    stacked, alone = trained(True), trained(False)
    assert stacked.keys() == alone.keys() == tiny_model().state_dict().keys()
    for name, value in alone.items():
        torch.testing.assert_close(stacked[name], value, rtol=1e-8, atol=1e-12)
        assert not torch.allclose(value[0], value[1])


@pytest.mark.parametrize("batch_size", [2, 100])
def test_outputs_are_those_of_each_model_with_references_of_its_own(batch_size):
    state, data, references = trained(True), pairs(7, 2), pairs(5, 3)
    found = ensemble_outputs(tiny_model, CLIP(5), state, data, batch_size, references)
    for number in range(3):
        model = tiny_model()
        model.load_state_dict({name: value[number] for name, value in state.items()})
        task = prepared(CLIP(5), model, references)
        expected = task.output(task.forward(model, data), data).detach()
        torch.testing.assert_close(found[number].double(), expected, rtol=1e-5, atol=1e-5)


def test_outputs_without_references_are_refused():
    with pytest.raises(ConfigError, match="reference examples, which are missing"):
        ensemble_outputs(tiny_model, CLIP(5), trained(True), pairs(7, 2), 2)
