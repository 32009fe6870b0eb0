import numpy as np
import pytest
import torch

from trakflow.errors import ConfigError
from trakflow.tasks.base import Task
from trakflow.tasks.classification import Classification
from trakflow.tasks.running import try_model
from trakflow.tasks.text_classification import TextClassification

TASK = Classification()


def batch(count=50, classes=5, scale=2.0):
    random = torch.Generator().manual_seed(0)
    raw = scale * torch.randn(count, classes, dtype=torch.float64, generator=random)
    return raw, {"labels": torch.randint(0, classes, (count,), generator=random)}


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_output_is_the_log_odds_of_the_label(classes):
    raw, labels = batch(classes=classes)
    logits = raw.numpy()
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(50), labels["labels"].numpy()]
    np.testing.assert_allclose(TASK.output(raw, labels).numpy(), np.log(p / (1 - p)), rtol=1e-12, atol=1e-12)


def test_loss_is_log_of_one_plus_exp_of_minus_f():
    raw, labels = batch()
    torch.testing.assert_close(TASK.loss(raw, labels), torch.log1p(torch.exp(-TASK.output(raw, labels))))


@pytest.mark.parametrize("task", [TASK, TextClassification()], ids=["images", "text"])
def test_q_and_w_are_finite_differences_of_the_loss_by_f(task):
    raw, labels = batch()
    step = 1e-4

    def shifted(by):
        # Raising the label's logit raises f by as much and changes nothing else of the loss.
        return raw.scatter_add(1, labels["labels"][:, None], torch.full((50, 1), by, dtype=torch.float64))

    up, here, down = (task.loss(shifted(by), labels) for by in (step, 0.0, -step))
    outputs = [task.output(shifted(by), labels) for by in (step, -step)]
    torch.testing.assert_close(outputs[0] - outputs[1], torch.full_like(here, 2 * step), rtol=1e-8, atol=0)
    first, second = (up - down) / (2 * step), (up - 2 * here + down) / step**2
    torch.testing.assert_close(task.loss_gradient(raw, labels).double(), -first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(task.curvature(raw, labels).double(), second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("logit", [17.0, 30.0, 60.0])
def test_q_and_w_keep_their_digits_where_p_rounds_to_one(logit, dtype):
    raw = torch.tensor([[logit, 0.0]], dtype=dtype)
    labels = {"labels": torch.tensor([0])}
    assert float(torch.softmax(raw.float(), dim=1)[0, 0]) > 0.9999999
    q, w = TASK.loss_gradient(raw, labels), TASK.curvature(raw, labels)
    assert q.dtype == w.dtype == torch.float32
    expected = 1 / (1 + np.exp(logit))
    assert float(q) == pytest.approx(expected, rel=1e-5)
    assert float(w) == pytest.approx(expected * (1 - expected), rel=1e-5)


def test_a_surely_wrong_label_has_q_of_one_and_a_small_positive_w():
    raw, labels = torch.tensor([[-60.0, 0.0]]), {"labels": torch.tensor([0])}
    assert float(TASK.loss_gradient(raw, labels)) == 1
    assert float(TASK.curvature(raw, labels)) == pytest.approx(np.exp(-60), rel=1e-5)


def test_the_predicted_label_is_that_of_the_largest_logit():
    raw, _ = batch()
    assert TASK.predicted(raw).tolist() == np.argmax(raw.numpy(), axis=1).tolist()


class Minimal(Task):
    """Only what must be defined."""

    def output(self, raw, batch):
        return raw[:, 0]

    def loss_gradient(self, raw, batch):
        return raw[:, 0]


def test_what_a_minimal_task_lacks_is_said_with_what_to_do():
    raw = torch.zeros(2, 1)
    assert Minimal().curvature(raw, {}) is None
    with pytest.raises(ConfigError, match=r"Minimal has no loss.*checkpoints\.files"):
        Minimal().loss(raw, {})
    with pytest.raises(ConfigError, match=r"Minimal predicts no label.*true_label"):
        Minimal().predicted(raw)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": torch.zeros(1, 2), "values": torch.zeros(1)}, r"have inputs, values.*task=regression"),
        ({"inputs": torch.zeros(1, 2), "labels": torch.zeros(1)}, r"labels.*have dtype torch\.float32"),
    ],
)
def test_examples_without_classes_are_refused_by_name(arrays, message):
    with pytest.raises(ConfigError, match=message):
        TASK.check_arrays(arrays)
    with pytest.raises(ConfigError, match=message):
        try_model(TASK, torch.nn.Linear(2, 1), arrays, "The model")


def test_a_model_that_returns_no_tensor_is_refused_with_the_tasks_that_take_such():
    class Named(Minimal):
        # Its own: types of what trakflow's tasks return are checked while tests run.
        def forward(self, model, batch):
            return {"logits": model(batch["inputs"])}

    with pytest.raises(ConfigError, match=r"returns dict, and Named reads a tensor.*task=text_classification"):
        try_model(Named(), torch.nn.Linear(2, 5), {"inputs": torch.zeros(1, 2)}, "The model")


class Careless(Minimal):
    """Reads an array that the examples may lack, and an attribute that the model may lack."""

    def forward(self, model, batch):
        return model.head(batch["inputs"]) if "inputs" in batch else batch["tokens"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": torch.zeros(1, 2)}, "AttributeError: 'Linear' object has no attribute 'head'"),
        ({"images": torch.zeros(1, 2)}, r"cannot take one example \(images \(1, 2\)\): KeyError: 'tokens'.*Careless"),
    ],
)
def test_what_a_task_stumbles_over_is_said_in_a_sentence(arrays, message):
    with pytest.raises(ConfigError, match=message):
        try_model(Careless(), torch.nn.Linear(2, 1), arrays, "The model")
