"""Each method against its definition, written out by autograd one example at a time or by numpy, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.influence import TracInCP

from small_classifier import checkpoint, examples, gradients
from trakflow.errors import ConfigError, DataError
from trakflow.methods.datamodel import Datamodel
from trakflow.methods.empirical_influence import EmpiricalInfluence
from trakflow.methods.external import External
from trakflow.methods.gas import GradientAggregatedSimilarity
from trakflow.methods.random_scores import RandomScores
from trakflow.methods.representation_similarity import RepresentationSimilarity
from trakflow.methods.tracin import TracIn
from trakflow.tasks.classification import Classification


@pytest.fixture
def trained():
    return checkpoint(1, examples(11, 1), examples(4, 2))


class Loss(Classification):
    """The loss in place of the output, whose gradient is what TracIn multiplies."""

    def output(self, raw, batch):
        return self.loss(raw, batch)


def test_tracin_is_the_learning_rate_times_the_gradients_of_minus_the_loss_and_of_the_output(trained):
    expected = (
        -0.3 * gradients(trained, trained.train, Loss()) @ gradients(trained, trained.targets, Classification()).T
    )
    found = TracIn(learning_rates=[0.1, 0.3]).scores(trained)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


class Output(torch.nn.Module):
    """The output of a classifier, as captum takes a loss: one value an example."""

    reduction = "none"

    def forward(self, raw, labels):
        return Classification().output(raw, {"labels": labels})


def test_tracin_is_captums(trained):
    data = torch.utils.data.TensorDataset(trained.train["inputs"], trained.train["labels"])
    captum = TracInCP(
        trained.model,
        torch.utils.data.DataLoader(data, batch_size=4),
        checkpoints=["the weights as they are"],
        checkpoints_load_func=lambda model, path: 0.3,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="none"),
        test_loss_fn=Output(),
    )
    products = captum.influence((trained.targets["inputs"], trained.targets["labels"]))
    # captum multiplies gradients of the loss, which a step goes down.
    np.testing.assert_allclose(TracIn(learning_rates=0.3).scores(trained), -products.T, rtol=1e-4, atol=1e-6)


def test_tracin_predicts_what_a_small_step_on_an_example_does(trained):
    rate, row = 1e-3, 7
    model, task = trained.model, trained.task
    batch = {name: value[row : row + 1] for name, value in trained.train.items()}
    before = task.output(task.forward(model, trained.targets), trained.targets).detach().double()
    expected = TracIn(learning_rates=rate).scores(trained)[row]
    task.loss(task.forward(model, batch), batch).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(rate * parameter.grad)
    after = task.output(task.forward(model, trained.targets), trained.targets).detach().double()
    np.testing.assert_allclose(after - before, expected, rtol=0.02, atol=2e-6)


def test_tracin_wants_a_learning_rate_for_every_checkpoint(trained):
    with pytest.raises(ConfigError, match="learning_rates of method TracIn has 1 entries"):
        TracIn(learning_rates=[0.1]).scores(trained)


def test_sketched_gradients_approach_whole_ones_as_k_grows(trained):
    whole = TracIn().scores(trained).numpy()
    errors = [
        np.abs(TracIn(sketch={"name": "gaussian", "k": k}).scores(trained).numpy() - whole).mean() for k in (16, 4096)
    ]
    # The error of a random projection falls as 1 / sqrt(k): by 16 here.
    assert errors[1] < errors[0] / 6


@pytest.mark.parametrize(
    ("sketch", "message"),
    [
        ({"name": "sjlt"}, r"`sketch` cannot be made: sketch=sjlt needs k, the number of features$"),
        ({"name": "sjlt", "k": "8", "kk": 3}, r"k: .* \(given: '8'\); kk: there is no such setting \(given: 3\)$"),
    ],
)
def test_a_sketch_of_a_methods_own_that_cannot_be_made_is_refused_in_the_words_of_the_configuration(sketch, message):
    with pytest.raises(ConfigError, match=message):
        TracIn(sketch=sketch)


def test_gas_is_the_cosine_of_the_gradients_of_minus_the_loss_and_of_the_output(trained):
    rows, targets = -gradients(trained, trained.train, Loss()), gradients(trained, trained.targets, Classification())
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    np.testing.assert_allclose(GradientAggregatedSimilarity().scores(trained), rows @ targets.T, atol=1e-5)


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_representation_similarity_compares_the_inputs_of_the_last_layer(trained, kind):
    hidden = [
        torch.tanh(trained.model[0](arrays["inputs"])).detach().double().numpy()
        for arrays in (trained.train, trained.targets)
    ]
    if kind == "cosine":
        hidden = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in hidden]
    similarity = hidden[0] @ hidden[1].T
    np.testing.assert_allclose(RepresentationSimilarity(kind, signed=False).scores(trained), similarity, atol=1e-5)
    same = trained.train["labels"].numpy()[:, None] == trained.targets["labels"].numpy()
    found = RepresentationSimilarity(kind, layer="2").scores(trained)
    np.testing.assert_allclose(found, np.where(same, similarity, -similarity), atol=1e-5)


def test_representation_similarity_refuses_what_it_cannot_read(trained):
    with pytest.raises(ConfigError, match="no module 'head'"):
        RepresentationSimilarity(layer="head").scores(trained)
    with pytest.raises(ConfigError, match="must be cosine or dot"):
        RepresentationSimilarity(kind="l2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_representation_similarity_takes_models_of_any_type(trained, dtype):
    expected = RepresentationSimilarity().scores(trained)
    found = RepresentationSimilarity().scores(replace(trained, model=trained.model.to(dtype)))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_representation_similarity_wants_one_label_an_example_for_its_signs(trained):
    labelled = replace(trained, train={**trained.train, "labels": torch.zeros(11, 2, dtype=torch.int64)})
    with pytest.raises(ConfigError, match=r"signed=false"):
        RepresentationSimilarity().scores(labelled)


def subsets(count, n, seed=0):
    return np.random.default_rng(seed).random((count, n)) < 0.5


def test_empirical_influence_is_the_difference_of_means():
    masks, outputs = subsets(30, 5), np.random.default_rng(1).standard_normal((30, 2)).astype(np.float32) + 1000
    expected = [[outputs[m, t].mean(dtype=float) - outputs[~m, t].mean(dtype=float) for t in range(2)] for m in masks.T]
    np.testing.assert_allclose(EmpiricalInfluence().scores(masks, outputs, 0), expected, rtol=1e-6, atol=1e-6)


def test_empirical_influence_refuses_examples_that_all_or_no_models_have_seen():
    masks = subsets(30, 5)
    masks[:, 3] = True
    with pytest.raises(DataError, match="1 training examples, 3 the first, are in all or in none"):
        EmpiricalInfluence().scores(masks, np.zeros((30, 1), dtype=np.float32), 0)


def test_a_datamodel_recovers_planted_sparse_weights():
    random = np.random.default_rng(2)
    masks = subsets(400, 60, 3)
    weights = np.zeros((60, 2))
    weights[[3, 17, 40], 0], weights[[5, 9], 1] = [1, -2, 0.5], [3, 1]
    outputs = (masks @ weights + 7 + 0.05 * random.standard_normal((400, 2))).astype(np.float32)
    found = Datamodel().scores(masks, outputs, 0)
    np.testing.assert_allclose(found, weights, atol=0.05)


def test_a_datamodel_of_noise_is_almost_empty():
    outputs = np.random.default_rng(5).standard_normal((200, 1)).astype(np.float32)
    assert np.abs(Datamodel().scores(subsets(200, 80), outputs, 0)).mean() < 0.05


def test_a_datamodel_of_equal_outputs_is_empty_and_impossible_settings_are_refused():
    assert not Datamodel().scores(subsets(20, 3), np.ones((20, 1), dtype=np.float32), 0).any()
    with pytest.raises(ConfigError, match="0 < held_out < 1"):
        Datamodel(held_out=1.0)


def test_a_datamodel_refuses_too_few_subsets():
    with pytest.raises(DataError, match=r"there are 5; raise fitting\.counts"):
        Datamodel().scores(subsets(5, 3), np.zeros((5, 1), dtype=np.float32), 0)


def test_random_scores_depend_on_the_seed_alone():
    assert np.array_equal(RandomScores().scores(5, 3, 1), RandomScores().scores(5, 3, 1))
    assert not np.array_equal(RandomScores().scores(5, 3, 1), RandomScores().scores(5, 3, 2))


def test_external_scores_are_read_as_they_are(tmp_path):
    scores = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "scores.npy", scores)
    assert np.array_equal(External(str(tmp_path / "scores.npy")).scores(3, 2, 0), scores)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\); expected numbers of shape \(3, 2\)"),
        (np.full((3, 2), np.nan), "NaN or Inf"),
        (np.full((3, 2), "x"), "expected numbers"),
    ],
)
def test_external_scores_that_do_not_fit_are_refused(tmp_path, scores, message):
    np.save(tmp_path / "scores.npy", scores)
    with pytest.raises(DataError, match=message):
        External(str(tmp_path / "scores.npy")).scores(3, 2, 0)
