"""The iterative task: derivatives by finite differences, the paper's library's own class, and a model that iterates."""

import numpy as np
import pytest
import torch
from oracle import gradients, shapes_of, tensor_sketch
from torch import nn

from trakflow.errors import ConfigError
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.sketches.tensor_sketch import TensorSketch
from trakflow.tasks.classification import Classification
from trakflow.tasks.iterative import IterativeClassification

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])


class Refining(nn.Module):
    """Applies one layer again and again and returns the logits after every iteration, or after the last."""

    def __init__(self, iterations=3, every=True):
        super().__init__()
        self.first, self.again, self.logits = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.iterations, self.every = iterations, every

    def forward(self, inputs):
        start = self.first(inputs)
        hidden, found = torch.zeros_like(start), []
        for _ in range(self.iterations):
            hidden = torch.tanh(start + self.again(hidden))
            found.append(self.logits(hidden))
        return torch.stack(found, dim=1) if self.every else found[-1]


def batch(count=50):
    random = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn(count, 3, 5, dtype=torch.float64, generator=random)
    return raw, {"labels": torch.randint(0, 5, (count,), generator=random)}


@temperatures
def test_f_is_the_log_odds_after_the_last_iteration_at_any_temperature(temperature):
    raw, labels = batch()
    p = torch.softmax(raw[:, -1], dim=1).gather(1, labels["labels"][:, None])[:, 0]
    found = IterativeClassification(temperature).output(raw, labels)
    torch.testing.assert_close(found, torch.log(p / (1 - p)), rtol=1e-10, atol=1e-10)


@temperatures
def test_q_and_w_are_finite_differences_of_the_loss_by_f(temperature):
    task, step = IterativeClassification(temperature), 1e-4
    raw, labels = batch()

    def shifted(by):
        # Raising the label's last logit raises f by as much and changes nothing else of the loss.
        last = raw[:, -1].scatter_add(1, labels["labels"][:, None], torch.full((50, 1), by, dtype=torch.float64))
        return torch.cat([raw[:, :-1], last[:, None]], dim=1)

    up, here, down = (task.loss(shifted(by), labels) for by in (step, 0.0, -step))
    outputs = [task.output(shifted(by), labels) for by in (step, -step)]
    torch.testing.assert_close(outputs[0] - outputs[1], torch.full_like(here, 2 * step), rtol=1e-8, atol=0)
    first, second = (up - down) / (2 * step), (up - 2 * here + down) / step**2
    found = task.loss_gradient(raw, labels), task.curvature(raw, labels)
    assert found[0].dtype == found[1].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), -first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1].double(), second, rtol=1e-5, atol=1e-6)


def test_without_iterations_at_temperature_one_it_is_classification():
    raw, labels = batch()
    one, other = IterativeClassification(), Classification()
    for method in ("output", "loss_gradient", "curvature", "loss"):
        for given in (raw, raw[:, -1]):
            assert torch.equal(getattr(one, method)(given, labels), getattr(other, method)(raw[:, -1], labels))
    assert torch.equal(one.predicted(raw), raw[:, -1].argmax(dim=1))


@temperatures
@pytest.mark.filterwarnings("ignore")
def test_f_and_q_are_those_of_the_papers_library(temperature):
    from trak.modelout_functions import IterativeImageClassificationModelOutput

    torch.manual_seed(0)
    model, alone = Refining().double(), Refining(every=False).double()
    alone.load_state_dict(model.state_dict())
    data = {"inputs": torch.randn(9, 6, dtype=torch.float64), "labels": torch.randint(0, 4, (9,))}
    ours, theirs = IterativeClassification(temperature), IterativeImageClassificationModelOutput(temperature)
    raw = ours.forward(model, data)
    f = theirs.get_output(alone, None, None, data["inputs"], data["labels"])
    torch.testing.assert_close(ours.output(raw, data), f)
    q = theirs.get_out_to_loss_grad(alone, None, None, (data["inputs"], data["labels"]))
    torch.testing.assert_close(ours.loss_gradient(raw, data), q[:, 0].float())


def test_the_gradient_of_a_layer_that_is_called_again_is_counted_every_time():
    torch.manual_seed(0)
    model, task = Refining().double().eval(), IterativeClassification()
    inputs, labels = torch.randn(4, 6, dtype=torch.float64), torch.tensor([1, 0, 3, 1])

    class OfLabel(IterativeClassification):
        # The oracle's batches hold inputs alone; the label is the one of the example with these inputs.
        def output(self, raw, batch):
            row = (inputs == batch["inputs"]).all(dim=1).nonzero()[0]
            return super().output(raw, {"labels": labels[row]})

    expected = tensor_sketch(gradients(model, inputs, OfLabel()), shapes_of(model), 24, 3)
    sketch = TensorSketch(model, task, differentiated_parameters(model), 24, 3)
    found = sketch({"inputs": inputs, "labels": labels}).features
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 5), (1, 0, 4), (4,), (1, 2, 3, 4)])
def test_outputs_of_another_shape_are_refused_with_what_is_expected(shape):
    with pytest.raises(ConfigError, match=r"\(1, iterations, 4\).*or \(1, 4\).*num_classes"):
        IterativeClassification().check(torch.zeros(shape), 4)


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 4)])
def test_logits_of_all_iterations_or_of_the_last_are_taken(shape):
    IterativeClassification().check(torch.zeros(shape), 4)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ConfigError, match=r"temperature=.*positive"):
        IterativeClassification(temperature)
