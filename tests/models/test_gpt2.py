import sys

import numpy as np
import pytest
import torch

from trakflow.config.training import Training
from trakflow.errors import ConfigError
from trakflow.models.gpt2 import gpt2
from trakflow.tasks.language_modeling import LogOdds
from trakflow.training.ensemble import ensemble_outputs, train_ensemble


def test_it_has_the_sizes_asked_for_and_draws_no_random_numbers_while_it_trains():
    model = gpt2(vocabulary=50, length=16, width=8, layers=3, heads=2).train()
    assert (model.transformer.wte.weight.shape, model.transformer.wpe.weight.shape) == ((50, 8), (16, 8))
    assert len(model.transformer.h) == 3
    assert model.lm_head.weight is model.transformer.wte.weight
    ids = torch.randint(0, 50, (4, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=0)


def test_no_token_depends_on_later_ones():
    torch.manual_seed(0)
    model = gpt2(vocabulary=50, length=16, width=8, layers=2, heads=2)
    ids = torch.randint(0, 50, (4, 16), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:, 9:] = 0
    found, expected = (model(input_ids=value).logits[:, :9] for value in (other, ids))
    torch.testing.assert_close(found, expected)


def test_what_it_cannot_be_is_said(monkeypatch):
    with pytest.raises(ConfigError, match="heads=3 does not divide width=8"):
        gpt2(vocabulary=50, length=16, width=8, layers=2, heads=3)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="extra text"):
        gpt2(vocabulary=50, length=16, width=8, layers=2, heads=2)


def test_many_train_as_one_as_they_would_one_by_one_with_padded_sequences():
    def double():
        return gpt2(vocabulary=20, length=6, width=8, layers=2, heads=2).double()

    random = torch.Generator().manual_seed(0)
    ends = torch.randint(3, 7, (24, 1), generator=random)
    arrays = {
        "input_ids": torch.randint(0, 20, (24, 6), generator=random),
        "attention_mask": (torch.arange(6) < ends).long(),
    }
    masks = np.stack([np.random.default_rng(number).permutation(24) < 12 for number in range(3)])
    settings = Training(epochs=2, batch_size=5, learning_rate=0.3, weight_decay=0.01)
    stacked, alone = (
        train_ensemble(double, LogOdds(), arrays, masks, settings.model_copy(update={"ensemble": together}), (1, 2, 3))
        for together in (True, False)
    )
    for name, value in stacked.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-8, atol=1e-12)
    # Tied weights have one name in the one and two in the other; the models are the same.
    outputs = [ensemble_outputs(double, LogOdds(), state, arrays, 7) for state in (stacked, alone)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    assert len(torch.unique(outputs[0])) > 24
