"""Tasks and projectors written for the paper's library."""

import numpy as np
import pytest
import torch
from torch import nn
from trak.modelout_functions import AbstractModelOutput as PapersModelOutput
from trak.modelout_functions import ImageClassificationModelOutput
from traker_problem import TRAIN, N, checkpoints, dense_scores, gradients, model, scores, traker

from trakflow import AbstractModelOutput
from trakflow.errors import ConfigError
from trakflow.tasks.classification import Classification


class Logit(AbstractModelOutput):
    """The label's logit itself, and a made-up Q."""

    def __init__(self):
        pass

    def get_output(self, model, weights, buffers, image, label):
        logits = torch.func.functional_call(model, (weights, buffers), image.unsqueeze(0))
        return logits.gather(1, label.reshape(1, 1)).sum()

    def get_out_to_loss_grad(self, model, weights, buffers, batch):
        images, labels = batch
        logits = torch.func.functional_call(model, (weights, buffers), images)
        return logits.softmax(-1)[torch.arange(len(labels)), labels].unsqueeze(-1)


class TwoInputs(Logit):
    """The model is called with a keyword and returns a dictionary."""

    def get_output(self, model, weights, buffers, image, scale, label):
        found = torch.func.functional_call(
            model, (weights, buffers), args=(), kwargs={"image": image[None], "scale": scale[None]}
        )
        return found["logits"].gather(1, label.reshape(1, 1)).sum()

    def get_out_to_loss_grad(self, model, weights, buffers, batch):
        return torch.ones(len(batch[0]))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model()

    def forward(self, image, scale):
        return {"logits": self.inner(image) * scale[:, None], "name": "scaled"}


SKETCHES = ["identity", "tensor_sketch", "factorized", "sjlt", "gaussian"]


def dimension(name):
    return {} if name == "identity" else {"proj_dim": 24}


@pytest.mark.parametrize("projector", SKETCHES)
def test_the_librarys_own_task_gives_the_scores_of_ours(tmp_path, projector):
    arguments = {"projector": projector, "lambda_reg": 1.0, **dimension(projector)}
    theirs = scores(tmp_path / "theirs", task=ImageClassificationModelOutput(), **arguments)
    ours = scores(tmp_path / "ours", task="image_classification", **arguments)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-6)


def test_without_curvature_rows_are_not_weighted_and_it_is_said(tmp_path, caplog):
    found = scores(tmp_path, task=ImageClassificationModelOutput(), projector="identity", logging_level=20)
    assert "ImageClassificationModelOutput defines no curvature W" in caplog.text
    expected = dense_scores(
        checkpoints(), lambda gram: float(gram.diagonal().sum()) / min(N, len(gram)), weighted=False
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def features(attributor, batch):
    attributor.load_checkpoint(checkpoints()[0] if isinstance(attributor.task, Classification) else STATE, model_id=0)
    return attributor._loaded.sketch(dict(zip("0123", batch, strict=False)))


torch.manual_seed(7)
STATE = Scaled().state_dict()


@pytest.mark.parametrize("projector", SKETCHES)
def test_a_batch_gives_the_gradients_of_one_example_after_another(tmp_path, projector):
    arguments = {"model": Scaled(), "projector": projector, **dimension(projector)}
    attributor = traker(tmp_path, task=TwoInputs(), **arguments)
    batch = (TRAIN[0], torch.linspace(0.5, 2, N), TRAIN[1])
    together = features(attributor, batch)
    apart = [
        features(traker(tmp_path, task=TwoInputs(), **arguments), [value[row, None] for value in batch])
        for row in range(3)
    ]
    for row, alone in enumerate(apart):
        torch.testing.assert_close(together.features[row], alone.features[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.outputs[row], alone.outputs[0])


def test_a_task_of_ones_own_gives_its_gradients_by_finite_differences(tmp_path):
    attributor = traker(tmp_path, task=Logit(), projector="identity")
    state = checkpoints()[0]
    attributor.load_checkpoint(state, model_id=0)
    found = attributor._loaded.sketch({"0": TRAIN[0], "1": TRAIN[1]})
    network = model().double()
    network.load_state_dict(state)
    direction = {name: torch.randn(value.shape, dtype=torch.float64) for name, value in network.named_parameters()}

    def logits(step):
        with torch.no_grad():
            moved = {name: value + step * direction[name] for name, value in network.named_parameters()}
            return torch.func.functional_call(network, moved, TRAIN[0].double())

    difference = ((logits(1e-5) - logits(-1e-5)) / 2e-5).gather(1, TRAIN[1][:, None])[:, 0]
    along = found.features.double() @ torch.cat([value.flatten() for value in direction.values()])
    torch.testing.assert_close(along, difference, rtol=1e-4, atol=1e-5)
    expected = logits(0).softmax(1).gather(1, TRAIN[1][:, None])[:, 0]
    torch.testing.assert_close(found.loss_gradients.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", [AbstractModelOutput, PapersModelOutput])
def test_either_base_class_will_do(tmp_path, base):
    class Own(base):
        def __init__(self):
            pass

        get_output = Logit.get_output
        get_out_to_loss_grad = Logit.get_out_to_loss_grad

    assert scores(tmp_path, task=Own(), proj_dim=8).shape[0] == N


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda self, model, weights, buffers, image, label: model.layers, "model.layers"),
        (
            lambda self, model, weights, buffers, image, label: torch.func.functional_call(
                model, (weights, buffers), image
            ).sum(),
            "batch of one example",
        ),
        (
            lambda self, model, weights, buffers, image, label: torch.func.functional_call(
                model, (weights, buffers), image.unsqueeze(0)
            )[0],
            "one number",
        ),
    ],
)
def test_a_task_that_cannot_be_run_together_says_what_to_do(tmp_path, output, message):
    class Own(Logit):
        get_output = output

    attributor = traker(tmp_path, task=Own(), proj_dim=8)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    with pytest.raises(ConfigError, match=message):
        attributor.featurize(TRAIN, num_samples=N)


class Columns:
    """A projector with the two things that one needs."""

    proj_dim = 3

    def project(self, grads, model_id):
        return grads[:, [0, 5, 9]] * (1 + model_id)


def test_a_projector_of_ones_own_is_given_the_gradients_by_all_parameters_in_order(tmp_path):
    attributor = traker(tmp_path, projector=Columns())
    for model_id, state in enumerate(checkpoints()):
        attributor.load_checkpoint(state, model_id=model_id)
        found = attributor._loaded.sketch({"inputs": TRAIN[0], "labels": TRAIN[1]}).features
        expected = gradients(state, TRAIN)[0][:, [0, 5, 9]] * (1 + model_id)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_a_projector_that_returns_another_size_is_refused(tmp_path):
    class Wrong(Columns):
        proj_dim = 4

    attributor = traker(tmp_path, projector=Wrong())
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    with pytest.raises(ConfigError, match="proj_dim says"):
        attributor.featurize(TRAIN, num_samples=N)
