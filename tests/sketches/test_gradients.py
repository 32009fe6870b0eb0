import pytest
import torch
from torch import nn

from trakflow.models.mlp import MLP
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.identity import Identity
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.tasks.base import Task
from trakflow.tasks.classification import Classification


def mlp():
    return MLP(12, [10, 6], 4)


class ConvNet(nn.Module):
    """Convolution, batch normalisation with statistics that are not 0 and 1, dropout, and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(20, 4)
        )
        self.layers[1].running_mean.uniform_(-0.5, 0.5)
        self.layers[1].running_var.uniform_(0.5, 2)

    def forward(self, inputs):
        return self.layers(inputs)


def conv_net():
    return ConvNet()


class Tied(nn.Module):
    """One matrix used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(inputs)))))


def tied():
    return Tied()


def examples(model, count=9):
    shape = (count, 1, 4, 4) if isinstance(model, ConvNet) else (count, 12)
    return {"inputs": torch.randn(shape), "labels": torch.randint(0, 4, (count,))}


def sketch_of(model, task=None):
    parameters = differentiated_parameters(model)
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    return GradientSketch(model, task or Classification(), Identity(sizes), parameters)


def log_odds(logits, label):
    p = torch.softmax(logits, dim=-1)[label]
    return torch.log(p / (1 - p))


def one_by_one(model, batch):
    """f, its gradient by the parameters, and p of each example alone, by autograd in float64."""
    model = model.double().eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = []
    for inputs, label in zip(batch["inputs"].double(), batch["labels"], strict=True):
        logits = model(inputs[None])[0]
        output = log_odds(logits, label)
        gradients = torch.autograd.grad(output, parameters)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        rows.append((flat, output.detach(), torch.softmax(logits, dim=-1)[label].detach()))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("make", [mlp, conv_net, tied])
def test_features_outputs_q_and_w_equal_a_loop_over_examples(make):
    torch.manual_seed(0)
    model = make()
    batch = examples(model)
    found = sketch_of(model)(batch)
    features, outputs, p = one_by_one(model, batch)
    assert {value.dtype for value in vars(found).values()} == {torch.float32}
    scale = features.abs().max(dim=1, keepdim=True).values
    assert float(((found.features.double() - features).abs() / scale).max()) < 1e-5
    torch.testing.assert_close(found.outputs.double(), outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.loss_gradients.double(), 1 - p, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.curvatures.double(), p * (1 - p), rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_left_out_of_the_features_and_still_used():
    torch.manual_seed(0)
    model = conv_net()
    model.layers[0].requires_grad_(False)
    batch = examples(model)
    found = sketch_of(model)(batch)
    features, outputs, _ = one_by_one(model, batch)
    assert found.features.shape == (9, sum(value.numel() for value in model.parameters()) - 50)
    torch.testing.assert_close(found.features.double(), features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.outputs.double(), outputs, rtol=1e-5, atol=1e-5)


def test_a_training_mode_model_is_sketched_in_evaluation_mode_and_left_unchanged():
    torch.manual_seed(0)
    model = conv_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = examples(model)
    sketch = sketch_of(model)
    whole = sketch(batch)
    alone = [sketch({name: value[row : row + 1] for name, value in batch.items()}) for row in range(9)]
    torch.testing.assert_close(torch.cat([part.features for part in alone]), whole.features, rtol=1e-4, atol=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class Regression(Task):
    """The prediction itself, without a curvature; reads an array of its own name."""

    def forward(self, model, batch):
        return model(batch["inputs"] * batch["scales"][:, None])

    def output(self, raw, batch):
        return raw[:, 0]

    def loss_gradient(self, raw, batch):
        return batch["values"] - raw[:, 0]


def test_a_task_reads_whatever_arrays_it_names_and_may_have_no_curvature():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    batch = {"inputs": torch.randn(5, 3), "scales": torch.rand(5), "values": torch.randn(5)}
    found = sketch_of(model, Regression())(batch)
    inputs = batch["inputs"] * batch["scales"][:, None]
    torch.testing.assert_close(found.features, torch.cat([inputs, torch.ones(5, 1)], dim=1))
    torch.testing.assert_close(found.outputs, model(inputs)[:, 0].detach())
    torch.testing.assert_close(found.loss_gradients, batch["values"] - found.outputs)
    assert found.curvatures is None


def test_rows_with_nan_or_inf_anywhere_are_not_finite():
    torch.manual_seed(0)
    model = mlp()
    batch = examples(model)
    batch["inputs"][2, 0] = float("nan")
    batch["inputs"][5, 3] = float("inf")
    assert torch.nonzero(~sketch_of(model)(batch).finite_rows()).flatten().tolist() == [2, 5]
