"""traker and dattri as methods: against the formula in float64 by their own matrix, and against a call by hand."""

import builtins
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from peer_formulas import RIDGES, formula
from small_classifier import checkpoint, examples, gradients
from tiny_bert import padded, sentence_classifier, sentences
from trakflow.errors import ConfigError, SketchError
from trakflow.methods.base import CheckpointsMethod
from trakflow.methods.dattri import Dattri
from trakflow.methods.functional import library_seed
from trakflow.methods.traker import Traker
from trakflow.models.bert import BertClassifier
from trakflow.tasks.classification import Classification
from trakflow.tasks.regression import Regression
from trakflow.tasks.text_classification import TextClassification

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("trak")
pytest.importorskip("dattri")

N, M, K, TASK = 30, 4, 8, Classification()
METHODS = {"traker": Traker, "dattri": Dattri}


@pytest.fixture
def trained():
    train, targets = examples(N, 1), examples(M, 2)
    return [checkpoint(number, train, targets, seed=number + 5) for number in range(2)]


def loss_gradients(one):
    raw = one.task.forward(one.model, one.train)
    return one.task.loss_gradient(raw, one.train).detach().double().numpy()


def part(one):
    """Gradients of a checkpoint, and Q."""
    return *(gradients(one, arrays, one.task) for arrays in (one.train, one.targets)), loss_gradients(one)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_scores_are_the_papers_formula(name, count, ridge, trained):
    method, setting = METHODS[name], RIDGES[name]
    found = np.asarray(method(k=K, **{setting: ridge}).scores(trained[:count]))
    expected = formula(name, [part(one) for one in trained[:count]], K, ridge)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
def test_a_positive_score_raises_the_output(name, trained):
    # Every training example as a target: its own gradient helps it.
    own = [replace(one, targets=one.train) for one in trained[:1]]
    assert (np.diag(np.asarray(METHODS[name](k=K).scores(own))) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_batches_are_as_large_as_the_memory_allows_and_change_nothing(name, trained):
    method = METHODS[name]
    expected = np.asarray(method(k=K).scores(trained))
    for found in (
        method(k=K, batch_size=7).scores(trained),
        method(k=K).scores([replace(one, memory_bytes=1) for one in trained]),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_traker_is_what_its_quickstart_gives(trained, tmp_path):
    from trak import TRAKer

    model = trained[0].model
    by_hand = TRAKer(
        model=model,
        task="image_classification",
        train_set_size=N,
        save_dir=str(tmp_path),
        device="cpu",
        proj_dim=120,
        projector_seed=library_seed(trained[0], "traker"),
        use_half_precision=False,
        logging_level=100,
        lambda_reg=0.1,
    )
    states = [one.model.state_dict() for one in trained]
    states = [{name: value.clone() for name, value in state.items()} for state in states]
    train, targets = ([arrays["inputs"], arrays["labels"]] for arrays in (trained[0].train, trained[0].targets))
    for number, state in enumerate(states):
        by_hand.load_checkpoint(state, model_id=number)
        by_hand.featurize(batch=train, num_samples=N)
    by_hand.finalize_features()
    for number, state in enumerate(states):
        by_hand.start_scoring_checkpoint("by_hand", state, number, num_targets=M)
        by_hand.score(batch=targets, num_samples=M)
    expected = np.array(by_hand.finalize_scores("by_hand"))
    model.load_state_dict(states[0])
    found = Traker(k=120, lambda_reg=0.1).scores(trained)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
def test_sentences_are_attributed_as_by_explicit_gradients(name):
    torch.manual_seed(0)
    model = BertClassifier(sentence_classifier().bert, 2).eval()
    batch = padded(sentences(14))
    task = TextClassification()
    one = replace(checkpoint(0, batch, {key: value[:3] for key, value in batch.items()}), model=model, task=task)
    names = ["classifier.weight", "classifier.bias"]
    rows = []
    for row in range(14):
        example = {key: value[row : row + 1] for key, value in batch.items()}
        value = task.output(task.forward(model, example), example).sum()
        parameters = [dict(model.named_parameters())[key] for key in names]
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)]))
    train = torch.stack(rows).double().numpy()
    expected = formula(name, [(train, train[:3], loss_gradients(one))], 4, 0.1)
    found = METHODS[name](k=4, parameters=["classifier.*"], **{RIDGES[name]: 0.1}).scores([one])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
def test_any_task_brings_its_own_q(name, trained):
    train, targets = ({**arrays, "values": arrays["inputs"][:, 0]} for arrays in (examples(N, 1), examples(M, 2)))
    torch.manual_seed(0)
    one = replace(trained[0], model=nn.Linear(6, 1), task=Regression(), train=train, targets=targets)
    found = np.asarray(METHODS[name](k=3, **{RIDGES[name]: 0.1}).scores([one]))
    # f is linear: its gradient is the input and 1.
    slopes = [np.pad(arrays["inputs"].double(), ((0, 0), (0, 1)), constant_values=1) for arrays in (train, targets)]
    expected = formula(name, [(*slopes, loss_gradients(one))], 3, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
def test_without_a_ridge_too_many_features_are_refused(name, trained):
    method, setting = METHODS[name], RIDGES[name]
    with pytest.raises(ConfigError, match=rf"{name} with k=30 and no ridge needs k to be smaller.*\(30\)"):
        method(k=N).scores(trained)
    assert np.isfinite(np.asarray(method(k=N, **{setting: 1.0}).scores(trained))).all()


@pytest.mark.parametrize("name", METHODS)
def test_impossible_settings_are_refused(name):
    method, setting = METHODS[name], RIDGES[name]
    for wrong in ({"k": None}, {"k": 0}, {"k": 4, setting: -1.0}, {"k": 4, "batch_size": 0}):
        with pytest.raises(ConfigError, match=rf"method\.{name}\.make needs k >= 1"):
            method(**wrong)


def test_traker_has_two_projectors():
    with pytest.raises(ConfigError, match=r"projector=gaussian must be default or basic"):
        Traker(k=4, projector="gaussian")


def test_trakers_basic_projector_is_what_it_takes_by_itself_on_a_cpu(trained):
    expected = Traker(k=K).scores(trained)
    np.testing.assert_array_equal(Traker(k=K, projector="basic").scores(trained), expected)


@pytest.mark.parametrize("name", METHODS)
def test_a_missing_package_names_the_extra(name, trained, monkeypatch):
    package = {"traker": "trak", "dattri": "dattri"}[name]
    found = builtins.__import__

    def absent(wanted, *args, **kwargs):
        if wanted == package:
            raise ModuleNotFoundError(wanted, name=wanted)
        return found(wanted, *args, **kwargs)

    monkeypatch.setattr("trakflow.extras.import_module", absent)
    with pytest.raises(ConfigError, match=rf"package {package}, of trakflow's extra peers"):
        METHODS[name](k=K).scores(trained)


class Branching(nn.Module):
    """Looks at values, which cannot be done under vmap."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.layer(inputs) if inputs.sum().item() > 0 else -self.layer(inputs)


@pytest.mark.parametrize("name", METHODS)
def test_a_model_that_cannot_be_mapped_is_refused_in_a_sentence(name, trained):
    with pytest.raises(SketchError, match=rf"{name} takes gradients under torch\.func\.vmap, where the model fails"):
        METHODS[name](k=K).scores([replace(trained[0], model=Branching())])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_leaves_nothing_behind(name, trained, capfd, tmp_path, monkeypatch):
    import dattri.algorithm.trak

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    defaults = dict(dattri.algorithm.trak.DEFAULT_PROJECTOR_KWARGS)
    method = METHODS[name](k=K + 1)
    assert isinstance(method, CheckpointsMethod)
    method.scores(trained)
    assert logging.getLogger().handlers == []
    assert defaults == dattri.algorithm.trak.DEFAULT_PROJECTOR_KWARGS
    assert list(Path(tmp_path).iterdir()) == []
    assert capfd.readouterr().err == ""
