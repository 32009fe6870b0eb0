"""Influence functions against dense matrices in float64, and the products that they are made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tiny_bert import bert, padded, sentences
from trakflow.errors import ConfigError, NumericalError
from trakflow.methods import gauss_newton, influence_function
from trakflow.methods.base import Trained
from trakflow.methods.conjugate_gradient import conjugate_gradient
from trakflow.methods.gauss_newton import GaussNewton
from trakflow.methods.gradients import one_example
from trakflow.methods.influence_arnoldi import InfluenceArnoldi
from trakflow.methods.influence_function import InfluenceFunction
from trakflow.methods.lanczos import largest_eigenpairs
from trakflow.models.bert import BertClassifier
from trakflow.sketches.memory import activation_bytes
from trakflow.tasks.classification import Classification
from trakflow.tasks.iterative import IterativeClassification
from trakflow.tasks.language_modeling import LogProbability
from trakflow.tasks.regression import Regression
from trakflow.tasks.text_classification import TextClassification

SEEN = np.array([True, False, True, True, False, True, True, True, False, True, True])


def examples(count, seed):
    random = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(count, 4, generator=random),
        "labels": torch.randint(0, 3, (count,), generator=random),
        "values": torch.randn(count, generator=random),
    }


def mlp(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).double().eval()


@pytest.fixture
def trained():
    return Trained(mlp(), Classification(), examples(11, 1), examples(4, 2), SEEN, 1, 0, 4, 2**26, "cpu")


def doubled(arrays):
    return {name: value.double() if value.is_floating_point() else value for name, value in arrays.items()}


def jacobian(trained, arrays, of):
    """Of `of(raw, batch)` by all parameters, one number of it after another (numbers x p)."""
    arrays = doubled(arrays)
    values = of(trained.task.forward(trained.model, arrays), arrays).flatten()
    parameters = list(trained.model.parameters())
    rows = [torch.autograd.grad(value, parameters, retain_graph=True) for value in values]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def dense(trained, curvature):
    """The Gauss-Newton matrix, by the whole Jacobian and the whole second derivative of the loss by it."""
    seen = np.flatnonzero(trained.mask)
    arrays = {name: value[seen] for name, value in doubled(trained.train).items()}
    raw = trained.task.forward(trained.model, arrays).detach()
    if curvature == "output":
        rows = jacobian(trained, arrays, trained.task.output)
        return rows.T @ (trained.task.curvature(raw, arrays).double()[:, None] * rows)
    rows = jacobian(trained, arrays, lambda raw, _: raw)
    second = torch.autograd.functional.hessian(lambda values: trained.task.loss(values, arrays).sum(), raw)
    return rows.T @ second.reshape(raw.numel(), raw.numel()) @ rows


def influences(trained, inverse):
    rows = jacobian(trained, trained.train, trained.task.output)
    targets = jacobian(trained, trained.targets, trained.task.output)
    arrays = doubled(trained.train)
    slopes = trained.task.loss_gradient(trained.task.forward(trained.model, arrays), arrays).double()
    return (slopes[:, None] * rows @ inverse @ targets.T).detach()


TASKS = [(Classification(), 3), (IterativeClassification(temperature=2.0), 3), (Regression(), 1)]


@pytest.mark.parametrize(("task", "outputs"), TASKS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("curvature", ["loss", "output"])
@pytest.mark.parametrize("passes", [10**9, 0], ids=["derivatives held", "by passes"])
def test_products_are_those_of_the_dense_matrix(trained, monkeypatch, task, outputs, curvature, passes):
    monkeypatch.setattr(gauss_newton, "PASSES", passes)
    trained = replace(trained, task=task, model=mlp(outputs), batch_size=3)
    matrix = GaussNewton(trained, curvature)
    expected = dense(trained, curvature)
    found = matrix(torch.eye(matrix.size, dtype=torch.float64))
    # W is float32 by the contract of tasks.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert matrix.mean_diagonal() == pytest.approx(expected.diagonal().mean().item(), rel=0.35)


def test_vectors_of_the_mean_diagonal_fit_the_memory(trained, monkeypatch):
    matrix, rows = GaussNewton(trained), []
    expected = matrix.mean_diagonal()
    product = GaussNewton.__call__
    monkeypatch.setattr(
        GaussNewton, "__call__", lambda self, vectors: rows.append(len(vectors)) or product(self, vectors)
    )
    assert GaussNewton(replace(trained, memory_bytes=2**14)).mean_diagonal() == pytest.approx(expected, rel=1e-12)
    assert sum(rows) == gauss_newton.PROBES
    assert max(rows) * matrix.size * 5 * 8 <= 2**12


class Scaled(nn.Module):
    """With a parameter that has no dimension, as the scale of CLIP has none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.layer = nn.Parameter(torch.tensor(0.7)), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.scale * self.layer(inputs)


@pytest.mark.parametrize("passes", [10**9, 0], ids=["derivatives held", "by passes"])
def test_a_parameter_may_be_a_single_number(trained, monkeypatch, passes):
    monkeypatch.setattr(gauss_newton, "PASSES", passes)
    trained = replace(trained, model=Scaled().double().eval())
    matrix = GaussNewton(trained)
    found = matrix(torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(found, dense(trained, "loss"), rtol=1e-6, atol=1e-7)


def test_derivatives_are_held_where_they_fit_and_save_operations(trained):
    # For three numbers 27 parameters: 324 operations for a vector by J, 5 x 42 by passes. For one 19: 76 and 5 x 30.
    of_three, of_one = trained, replace(trained, task=Regression(), model=mlp(1))
    assert GaussNewton(of_three)._held is None
    assert GaussNewton(of_one)._held is not None
    assert GaussNewton(replace(of_one, memory_bytes=4000))._held is None


def test_products_are_second_differences_of_the_loss_of_the_linearised_model(trained):
    matrix, step = GaussNewton(trained), 1e-4
    vector = torch.randn(matrix.size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    seen = {name: value[np.flatnonzero(SEEN)] for name, value in doubled(trained.train).items()}
    raw = trained.model(seen["inputs"]).detach()
    along = (jacobian(trained, seen, lambda raw, _: raw) @ vector).view_as(raw)
    losses = [Classification().loss(raw + shift * along, seen).sum() for shift in (-step, 0.0, step)]
    expected = (losses[0] - 2 * losses[1] + losses[2]) / step**2
    assert (vector @ matrix(vector[None])[0]).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("task", "outputs"), TASKS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("curvature", ["loss", "output"])
@pytest.mark.parametrize("rank", [0, 2, 128])
def test_an_influence_function_is_its_closed_form(trained, task, outputs, curvature, rank):
    trained = replace(trained, task=task, model=mlp(outputs))
    matrix = dense(trained, curvature)
    expected = influences(trained, torch.linalg.inv(matrix + 0.03 * torch.eye(len(matrix))))
    method = InfluenceFunction(0.03, "absolute", curvature, tolerance=1e-8, rank=rank)
    torch.testing.assert_close(method.scores(trained).double(), expected, rtol=1e-4, atol=1e-5)


def test_a_preconditioner_saves_products_of_the_damped_matrix(trained, monkeypatch):
    taken = []

    class Counting(GaussNewton):
        def __call__(self, vectors):
            taken[-1].append(len(vectors))
            return super().__call__(vectors)

    monkeypatch.setattr(influence_function, "GaussNewton", Counting)
    for rank in (0, 20, 128):
        taken.append([])
        InfluenceFunction(damping=1e-3, tolerance=1e-6, rank=rank).scores(trained)
    # The first are those of the mean diagonal. With all 27 dimensions the preconditioner is nearly the inverse.
    assert sum(taken[0]) > 100 + taken[0][0]
    assert taken[1][1] == 20
    assert sum(taken[1]) < 0.7 * sum(taken[0])
    assert taken[2][1] == 27
    assert sum(taken[2][2:]) <= 12


def test_a_preconditioner_has_at_most_sixteen_dimensions_a_target(trained):
    method = InfluenceFunction(rank=40)
    assert [method._rank_for(targets, 1000) for targets in (1, 2, 3)] == [16, 32, 40]


def test_relative_damping_is_a_multiple_of_the_mean_diagonal(trained):
    damping = 0.1 * GaussNewton(trained).mean_diagonal()
    found = InfluenceFunction(damping=0.1, tolerance=1e-8).scores(trained)
    expected = InfluenceFunction(damping=damping, damping_unit="absolute", tolerance=1e-8).scores(trained)
    torch.testing.assert_close(found, expected)


def test_an_influence_function_predicts_what_leaving_an_example_out_does():
    """Of ridge regression, whose Gauss-Newton matrix is its Hessian: the first order of an exact formula."""
    torch.manual_seed(0)
    data, model = examples(40, 5), nn.Linear(4, 1).double()
    inputs = torch.cat([data["inputs"].double(), torch.ones(40, 1, dtype=torch.float64)], dim=1)
    ridge = 0.5 * torch.eye(5, dtype=torch.float64)

    def fitted(kept):
        return torch.linalg.solve(inputs[kept].T @ inputs[kept] + ridge, inputs[kept].T @ data["values"].double()[kept])

    everything = fitted(torch.arange(40))
    with torch.no_grad():
        model.weight.copy_(everything[None, :4])
        model.bias.copy_(everything[4:])
    trained = Trained(model, Regression(), data, examples(3, 6), None, 0, 0, 16, 2**26, "cpu")
    found = InfluenceFunction(damping=0.5, damping_unit="absolute", tolerance=1e-8).scores(trained)
    targets = torch.cat([trained.targets["inputs"].double(), torch.ones(3, 1, dtype=torch.float64)], dim=1)
    without = torch.stack([targets @ fitted(torch.arange(40) != row) for row in range(40)])
    leverage = (inputs @ torch.linalg.inv(inputs.T @ inputs + ridge) * inputs).sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.double(), (1 - leverage) * (targets @ everything - without), rtol=1e-4, atol=1e-6)


def test_conjugate_gradient_that_does_not_converge_is_an_error(trained):
    with pytest.raises(NumericalError, match=r"not converged for 4 of 4 targets in 2 iterations.*Raise the method's"):
        InfluenceFunction(iterations=2, rank=0).scores(trained)


def test_conjugate_gradient_solves_rows_that_need_different_numbers_of_iterations():
    torch.manual_seed(0)
    factor = torch.randn(30, 30, dtype=torch.float64)
    matrix = factor @ factor.T + 0.1 * torch.eye(30, dtype=torch.float64)
    right = torch.cat([torch.linalg.eigh(matrix)[1].T[:1], torch.zeros(1, 30), torch.randn(3, 30)]).double()
    calls = []

    def product(rows):
        calls.append(len(rows))
        return rows @ matrix

    found = conjugate_gradient(product, right, 1e-10, 200)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right.T).T, rtol=1e-7, atol=1e-9)
    # One iteration for the eigenvector, none for zero.
    assert calls[:2] == [4, 3]
    with pytest.raises(NumericalError, match="not positive definite"):
        conjugate_gradient(lambda rows: -rows, right, 1e-3, 10)


@pytest.mark.parametrize("curvature", ["loss", "output"])
def test_arnoldi_with_enough_iterations_is_the_pseudo_inverse(trained, curvature):
    trained = replace(trained, mask=np.arange(11) < 3)
    matrix = dense(trained, curvature)
    # Three examples, each with C - 1 = 2 directions of logits that the loss is curved in, or one of f.
    assert torch.linalg.matrix_rank(matrix, rtol=1e-9) == {"loss": 6, "output": 3}[curvature]
    found = InfluenceArnoldi(iterations=100, eigenvalues=100, curvature=curvature).scores(trained)
    expected = influences(trained, torch.linalg.pinv(matrix, rtol=1e-9, hermitian=True))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_arnoldi_keeps_the_largest_eigenvalues(trained):
    values, vectors = torch.linalg.eigh(dense(trained, "loss"))
    expected = influences(trained, vectors[:, -2:] / values[-2:] @ vectors[:, -2:].T)
    found = InfluenceArnoldi(iterations=27, eigenvalues=2).scores(trained)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_eigenpairs_of_a_matrix_with_negative_eigenvalues_are_the_largest_by_magnitude():
    torch.manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))[0]
    values = torch.tensor([9.0, -7, 4, -2, 1], dtype=torch.float64)
    matrix = rotation[:, :5] @ torch.diag(values) @ rotation[:, :5].T
    found = largest_eigenpairs(lambda rows: rows @ matrix, torch.randn(40, dtype=torch.float64), 40, 3)
    torch.testing.assert_close(found.values, values[:3])
    torch.testing.assert_close((found.vectors @ rotation[:, :3]).abs(), torch.eye(3, dtype=torch.float64))
    # The space is exhausted after rank + 1 steps, and zeros are no eigenvalues that are kept.
    assert len(largest_eigenpairs(lambda rows: rows @ matrix, torch.ones(40).double(), 40, 40).values) == 5


@pytest.mark.parametrize("method", [InfluenceFunction(rank=8), InfluenceArnoldi()], ids=["cg", "arnoldi"])
def test_batches_change_nothing(trained, method):
    expected = method.scores(trained)
    found = method.scores(replace(trained, batch_size=3, memory_bytes=12_000))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [InfluenceFunction(), InfluenceArnoldi()], ids=["cg", "arnoldi"])
def test_what_does_not_fit_the_memory_is_refused(trained, method):
    with pytest.raises(ConfigError, match=r"by 27 parameters takes 0 MiB.*raise runtime\.memory_mb"):
        method.scores(replace(trained, memory_bytes=1000))


def test_a_preconditioner_that_does_not_fit_the_memory_is_refused(trained):
    # A dimension of 27 parameters takes 648 bytes of half the memory while it is made.
    with pytest.raises(
        ConfigError, match=r"rank 27 for 27 .*set method\.influence_function\.make\.rank to at most 6\."
    ):
        InfluenceFunction().scores(replace(trained, memory_bytes=8_000))
    assert InfluenceFunction(rank=6).scores(replace(trained, memory_bytes=8_000)).isfinite().all()


def test_memory_is_measured_of_one_example_and_not_of_the_array_that_it_lies_in(trained):
    alone = replace(trained, train={name: value[:1].clone() for name, value in trained.train.items()})
    sizes = [activation_bytes(each.model, each.task, one_example(each)) for each in (trained, alone)]
    assert sizes[0] == sizes[1]


class Contrast(Classification):
    """A loss that compares the examples of a batch with each other, as that of CLIP does."""

    def loss(self, raw, batch):
        return super().loss(raw - raw.mean(dim=0), batch)


def test_curvature_is_that_of_a_sum_over_examples(trained):
    with pytest.raises(ConfigError, match=r"depends on which examples are in a batch.*set curvature: output"):
        InfluenceFunction().scores(replace(trained, task=Contrast()))
    assert InfluenceFunction(curvature="output").scores(replace(trained, task=Contrast())).isfinite().all()


def test_curvature_that_a_task_does_not_have_is_refused(trained):
    class Plain(Classification):
        def curvature(self, raw, batch):
            return None

    with pytest.raises(ConfigError, match="Plain has no d2loss/df2"):
        InfluenceArnoldi(curvature="output").scores(replace(trained, task=Plain()))
    with pytest.raises(ConfigError, match="curvature=hessian must be loss or output"):
        InfluenceArnoldi(curvature="hessian").scores(trained)
    with pytest.raises(ConfigError, match=r"computes in torch\.bfloat16"):
        InfluenceArnoldi().scores(replace(trained, model=mlp().to(torch.bfloat16)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfluenceFunction(damping=0.0), "damping > 0"),
        (lambda: InfluenceFunction(rank=-1), "rank >= 0"),
        (lambda: InfluenceFunction(damping_unit="mean"), "must be relative or absolute"),
        (lambda: InfluenceArnoldi(iterations=5, eigenvalues=6), "eigenvalues <= iterations"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_influence_functions_of_a_text_model_are_their_closed_form(attention):
    model = BertClassifier(bert(attn_implementation=attention), 2).double().eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "layer.1.attention" in name or "classifier" in name
    batch = padded(sentences())
    trained = Trained(model, TextClassification(), batch, batch, np.arange(7) < 5, 0, 0, 3, 2**26, "cpu")
    matrix = GaussNewton(trained)
    parameters = [value for value in model.parameters() if value.requires_grad]

    def rows(of):
        raw = TextClassification().forward(model, batch)
        found = [torch.autograd.grad(value, parameters, retain_graph=True) for value in of(raw).flatten()]
        return raw.detach(), torch.stack([torch.cat([part.flatten() for part in row]) for row in found])

    raw, gradients = rows(lambda raw: TextClassification().output(raw, batch))
    weights = TextClassification().curvature(raw, batch).double()
    # With two classes the loss is a function of f alone.
    expected = gradients[:5].T @ (weights[:5, None] * gradients[:5])
    torch.testing.assert_close(matrix(torch.eye(matrix.size).double()), expected, rtol=1e-5, atol=1e-8)
    damping = 0.1 * expected.diagonal().mean().item()
    slopes = TextClassification().loss_gradient(raw, batch).double()
    inverse = torch.linalg.inv(expected + damping * torch.eye(matrix.size))
    scores = InfluenceFunction(damping=damping, damping_unit="absolute", tolerance=1e-6).scores(trained).double()
    torch.testing.assert_close(scores, slopes[:, None] * gradients @ inverse @ gradients.T, rtol=1e-3, atol=1e-3)


def test_a_language_model_has_a_curvature_of_its_loss(trained):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)

        def forward(self, input_ids):
            return self.head(self.embedding(input_ids))

    tokens = {"input_ids": torch.randint(0, 5, (6, 4), generator=torch.Generator().manual_seed(0))}
    language = Trained(Tokens().double().eval(), LogProbability(), tokens, tokens, None, 0, 0, 4, 2**26, "cpu")
    matrix = GaussNewton(language)
    found = matrix(torch.eye(matrix.size).double())
    assert torch.linalg.eigvalsh(found).min() > -1e-8 * found.diagonal().max()
    assert InfluenceFunction().scores(language).diagonal().gt(0).all()
    with pytest.raises(ConfigError, match="no d2loss/df2"):
        GaussNewton(language, "output")
