"""EK-FAC by kronfluence against its definition in float64, and against gradients where its factors do not matter."""

import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tiny_bert import bert, padded, sentence_classifier, sentences
from trakflow.errors import ConfigError
from trakflow.methods.base import Trained
from trakflow.methods.ekfac import EKFAC
from trakflow.methods.kronfluence_modules import covered_modules
from trakflow.methods.losses import sampled_loss
from trakflow.models.bert import BertClassifier
from trakflow.models.refining_mlp import RefiningMLP
from trakflow.models.resnet9 import ResNet9
from trakflow.tasks.classification import Classification
from trakflow.tasks.iterative import IterativeClassification
from trakflow.tasks.language_modeling import LogProbability
from trakflow.tasks.regression import Regression
from trakflow.tasks.text_classification import TextClassification

HUGE = 1e6


def examples(count, seed, *shape):
    random = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(count, *(shape or (4,)), generator=random),
        "labels": torch.randint(0, 3, (count,), generator=random),
        "values": torch.randn(count, generator=random),
    }


def trained_on(model, task, train, targets, seen=None):
    return Trained(model.eval(), task, train, targets, seen, 1, 0, 4, 2**26, "cpu")


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3, bias=False))
    return trained_on(model, Classification(), examples(11, 1), examples(4, 2), np.arange(11) < 8)


def gradients(trained, arrays, of, model=None):
    """By every parameter of the covered modules, example by example, in float64."""
    model = model or trained.model.double()
    names = covered_modules(trained).names
    parameters = [own for name in names for own in model.get_submodule(name).parameters()]
    rows = []
    for row in range(len(arrays["labels"])):
        one = {name: value[row : row + 1] for name, value in arrays.items()}
        one = {name: value.double() if value.is_floating_point() else value for name, value in one.items()}
        value = of(trained.task.forward(model, one), one).sum()
        found = torch.autograd.grad(value, parameters)
        rows.append(torch.cat([part.flatten() for part in found]))
    return torch.stack(rows)


def over_huge_damping(trained, seen):
    """What is left where damping is far above all eigenvalues: products of gradients."""
    found = EKFAC(damping=HUGE).scores(trained).double() * HUGE * seen
    rows = gradients(trained, trained.train, trained.task.loss)
    return found, -rows @ gradients(trained, trained.targets, trained.task.output).T


def written_out(trained, damping):
    """EK-FAC with the empirical Fisher matrix, from its definition (George et al. 2018): one layer after another."""
    model, total = trained.model.double(), 0
    seen = np.flatnonzero(trained.mask)
    losses = -gradients(trained, trained.train, trained.task.loss)
    outputs = gradients(trained, trained.targets, trained.task.output)
    hidden = trained.train["inputs"][seen].double()
    start = 0
    for layer in model:
        if isinstance(layer, nn.Linear):
            bias = layer.bias is not None
            inputs = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1) if bias else hidden
            shape, size = layer.weight.shape, layer.weight.numel() + len(layer.weight) * bias

            def whole(rows, start=start, shape=shape, size=size, bias=bias):
                part = rows[:, start : start + size]
                weight = part[:, : shape.numel()].view(-1, *shape)
                return torch.cat([weight, part[:, shape.numel() :, None]], dim=2) if bias else weight

            own, queried = whole(losses), whole(outputs)
            # The gradient by a layer's output: that of its weight is its product with the input.
            slopes = own[seen] @ inputs[:, :, None] / inputs.square().sum(dim=1)[:, None, None]
            slopes = slopes.squeeze(2)
            of_inputs = torch.linalg.eigh(inputs.T @ inputs / len(seen))[1]
            of_slopes = torch.linalg.eigh(slopes.T @ slopes / len(seen))[1]
            rotated = [of_slopes.T @ each @ of_inputs for each in (own, queried)]
            eigenvalues = rotated[0][seen].square().mean(dim=0)
            flat = [each.flatten(1) for each in rotated]
            total = total + flat[0] / (eigenvalues.flatten() + damping(eigenvalues)) @ flat[1].T
            start += size
        hidden = layer(hidden)
    return (total / len(seen)).detach()


@pytest.mark.parametrize("damping", [0.003, None])
def test_scores_are_those_of_ekfac_written_out(trained, damping):
    found = EKFAC(damping=damping, empirical_fisher=True).scores(trained)
    expected = written_out(trained, lambda values: 0.1 * values.mean() if damping is None else damping)
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=2e-3 * expected.abs().max().item())


def test_scores_are_near_those_of_the_dense_matrix_for_a_linear_model():
    torch.manual_seed(0)
    train, targets = examples(300, 3), examples(20, 4)
    trained = trained_on(nn.Linear(4, 3, bias=False), Classification(), train, targets)
    found = EKFAC(damping=1e-4).scores(trained).double()
    model = trained.model.double()
    inputs = train["inputs"].double()
    p = torch.softmax(model(inputs), dim=1).detach()
    second = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    matrix = torch.einsum("nab,ni,nj->aibj", second, inputs, inputs).reshape(12, 12) / 300
    rows, queried = (
        -gradients(trained, train, Classification().loss),
        gradients(trained, targets, Classification().output),
    )
    expected = rows @ torch.linalg.inv(matrix + 1e-4 * torch.eye(12)) @ queried.T / 300
    assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.97
    assert (found * expected).sum() / expected.square().sum() == pytest.approx(1, abs=0.15)


def test_a_residual_network_is_attributed_by_its_convolutions_and_its_linear_layer():
    torch.manual_seed(0)
    model = ResNet9(3, width=2)
    images = (examples(5, 1, 3, 12, 12), examples(3, 2, 3, 12, 12))
    trained = trained_on(model, Classification(), *images)
    found, expected = over_huge_damping(trained, 5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("own", [True, False], ids=["trakflow", "transformers"])
def test_a_text_model_is_attributed_by_its_linear_layers(own):
    model = BertClassifier(bert(), 2, freeze_embeddings=True) if own else sentence_classifier()
    batch = padded(sentences())
    trained = trained_on(model, TextClassification(), batch, batch, np.arange(7) < 5)
    found, expected = over_huge_damping(trained, 5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert EKFAC().scores(trained_on(model.float(), TextClassification(), batch, batch)).diagonal().gt(0).all()


def test_padding_is_no_part_of_the_factors():
    batches = [padded(sentences(), length=length) for length in (9, 12)]
    model = BertClassifier(bert(), 2, freeze_embeddings=True)
    method = EKFAC(damping=1e-6, empirical_fisher=True)
    short, long = (method.scores(trained_on(model, TextClassification(), batch, batch)) for batch in batches)
    torch.testing.assert_close(short, long, rtol=1e-2, atol=1e-3 * short.abs().max().item())


def test_a_layer_that_is_called_in_every_iteration_counts_every_time():
    torch.manual_seed(0)
    trained = trained_on(RefiningMLP(4, 5, 3, 3), IterativeClassification(2.0), examples(6, 1), examples(3, 2))
    assert covered_modules(trained).shared
    found, expected = over_huge_damping(trained, 6)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("task", "outputs"), [(Classification(), 3), (IterativeClassification(2.0), 3), (Regression(), 1)]
)
def test_gradients_of_a_sampled_loss_have_the_second_derivative_of_the_loss_as_their_second_moment(task, outputs):
    torch.manual_seed(0)
    draws, one = 40_000, {"labels": torch.tensor([1]), "values": torch.tensor([0.3])}
    raw = torch.randn(1, outputs)
    expected = torch.autograd.functional.hessian(lambda values: task.loss(values, one).sum(), raw).reshape(outputs, -1)
    many = raw.repeat(draws, 1).requires_grad_()
    sampled_loss(task, many, {name: value.repeat(draws) for name, value in one.items()}).sum().backward()
    torch.testing.assert_close(many.grad.T @ many.grad / draws, expected, rtol=0.1, atol=0.01)
    assert many.grad.mean(dim=0).abs().max() < 0.02


def test_scores_are_a_function_of_the_seed_and_leave_nothing_behind(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again = (EKFAC().scores(trained) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, EKFAC().scores(replace(trained, seed=1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())
    assert type(trained.model[0]) is nn.Linear
    assert all(value.requires_grad for value in trained.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


def test_without_kronfluence_the_extra_is_named(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "kronfluence", None)
    with pytest.raises(ConfigError, match=r"pip install --editable '\.\[peers\]'"):
        EKFAC().scores(trained)


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.embedding(inputs).mean(dim=1))


def test_a_model_that_kronfluence_hardly_covers_is_refused():
    tokens = {"inputs": torch.zeros(3, 2, dtype=torch.int64), "labels": torch.zeros(3, dtype=torch.int64)}
    with pytest.raises(ConfigError, match="hold 15 of 215 trained parameters"):
        EKFAC().scores(trained_on(Embedded(), Classification(), tokens, tokens))


def test_modules_whose_gradients_kronfluence_takes_wrongly_are_not_covered():
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 2, 3),
        nn.Flatten(), nn.Linear(2 * 4 * 4, 40), nn.Linear(40, 3),
    )  # fmt: skip
    arrays = examples(2, 1, 4, 8, 8)
    assert covered_modules(trained_on(model, Classification(), arrays, arrays)).names == ["2", "4", "5"]


def test_tasks_and_sizes_that_cannot_be_are_refused(trained):
    class Contrast(Classification):
        def loss(self, raw, batch):
            return super().loss(raw - raw.mean(dim=0), batch)

    with pytest.raises(ConfigError, match="depends on which examples are in a batch"):
        EKFAC().scores(replace(trained, task=Contrast()))
    with pytest.raises(ConfigError, match=r"2 layers take 0 MiB.*raise runtime\.memory_mb"):
        EKFAC().scores(replace(trained, memory_bytes=100))
    with pytest.raises(ConfigError, match="must be positive"):
        EKFAC(damping=0.0)
    raw = torch.zeros(1, 20, 30)
    with pytest.raises(ConfigError, match=r"returns 600 numbers an example.*empirical_fisher=true"):
        sampled_loss(LogProbability(), raw, {"input_ids": torch.zeros(1, 20, dtype=torch.int64)})
