import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from trakflow.config.training import Training
from trakflow.models.mlp import MLP
from trakflow.seeds import derive_seed
from trakflow.tasks.classification import Classification
from trakflow.training.sgd import MomentumSGD, batch_order, learning_rate_factor, make_model, select_rows, train_model


def factory():
    return MLP(6, [5], 3).double()


def arrays(count=30):
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, dtype=torch.float64, generator=random)
    return {"inputs": inputs, "labels": torch.randint(0, 3, (count,), generator=random)}


def train(data, indices, seed=0, **settings):
    values = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1, **settings}
    return train_model(factory, Classification(), data, indices, Training(**values), seed)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_training_is_sgd_with_momentum_and_weight_decay_written_by_hand(schedule):
    data, indices = arrays(), np.arange(3, 25)
    trained = train(data, indices, epochs=2, momentum=0.8, weight_decay=0.02, schedule=schedule, learning_rate=0.3)

    model = make_model(factory, derive_seed(0, "init"))
    weights = list(model.parameters())
    velocity = [torch.zeros_like(weight) for weight in weights]
    # 22 examples in batches of 8 are 3 steps an epoch.
    factors = {
        "constant": [1, 1, 1, 1, 1, 1],
        "linear": [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        "cosine": [0.5 + 0.5 * math.cos(math.pi * step / 6) for step in range(6)],
    }[schedule]
    batches = [batch for epoch in range(2) for batch in batch_order(indices, 8, 0, epoch)]
    for chosen, factor in zip(batches, factors, strict=True):
        logits, labels = model(data["inputs"][chosen]), data["labels"][chosen]
        loss = -torch.log_softmax(logits, dim=1)[range(len(chosen)), labels].mean()
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, speed, gradient in zip(weights, velocity, gradients, strict=True):
                speed.mul_(0.8).add_(gradient + 0.02 * weight)
                weight.sub_(0.3 * factor * speed)
    for found, expected in zip(trained.parameters(), weights, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_an_epoch_visits_every_chosen_example_once_in_another_order():
    indices = np.arange(100, 130)
    epochs = [batch_order(indices, 8, 0, epoch) for epoch in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [8, 8, 8, 6]
        assert sorted(np.concatenate(batches)) == indices.tolist()
    orders = [np.concatenate(batches).tolist() for batches in (*epochs, batch_order(indices, 8, 1, 0))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert orders[0] == np.concatenate(batch_order(indices, 8, 0, 0)).tolist()


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"), [("constant", 1, 1, 1), ("linear", 1, 0.5, 0), ("cosine", 1, 0.5, 0)]
)
def test_schedules_at_their_ends_and_in_the_middle(schedule, start, middle, end):
    found = [learning_rate_factor(schedule, step, 200) for step in (0, 100, 200)]
    assert found == pytest.approx([start, middle, end], abs=1e-12)
    factors = [learning_rate_factor(schedule, step, 200) for step in range(201)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors))


def test_a_seed_names_the_weights_and_torchs_own_generator_is_left_alone():
    data, indices = arrays(), np.arange(20)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(data, indices, seed=1)
    assert torch.equal(torch.rand(3), expected)
    again, other = train(data, indices, seed=1), train(data, indices, seed=2)
    assert all(torch.equal(left, right) for left, right in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(left, right) for left, right in zip(first.parameters(), other.parameters(), strict=True))
    assert not first.training


def test_examples_left_out_do_not_matter():
    data = arrays()
    changed = {"inputs": data["inputs"].clone(), "labels": data["labels"]}
    changed["inputs"][25:] = 1e6
    for left, right in zip(
        train(data, np.arange(25)).parameters(), train(changed, np.arange(25)).parameters(), strict=True
    ):
        assert torch.equal(left, right)


def test_training_lowers_the_loss():
    data = arrays()
    losses = [
        Classification().loss(train(data, np.arange(30), epochs=epochs)(data["inputs"]), data).mean().item()
        for epochs in (1, 30)
    ]
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize(
    ("parameter_axes", "gradient_axes"), [((0, 1, 2), (0, 1, 2)), ((0, 2, 1), (0, 2, 1)), ((0, 1, 2), (2, 0, 1))]
)
def test_a_step_is_torchs_own_whatever_the_layout_in_memory(momentum, parameter_axes, gradient_axes):
    random = torch.Generator().manual_seed(0)

    def draw(axes):
        # The shape is 3 x 4 x 5 whatever the order of its axes in memory.
        sizes = [(3, 4, 5)[axis] for axis in axes]
        back = [axes.index(axis) for axis in range(3)]
        return torch.randn(sizes, dtype=torch.float64, generator=random).permute(back)

    start = [draw(parameter_axes), torch.randn(6, dtype=torch.complex128, generator=random)]
    found, expected = ([value.clone().requires_grad_() for value in start] for _ in range(2))
    settings = Training(epochs=1, batch_size=1, learning_rate=0.3, momentum=momentum, weight_decay=0.02)
    optimizer = MomentumSGD(found, settings, 4)
    reference = torch.optim.SGD(expected, lr=0.3, momentum=momentum, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(reference, lambda step: 1 - step / 4)
    # The complex one has no gradient in every other step.
    for present in (False, True, False, True):
        gradients = [draw(gradient_axes), torch.randn(6, dtype=torch.complex128, generator=random) if present else None]
        expected[0].grad, expected[1].grad = gradients
        reference.step()
        schedule.step()
        optimizer.step(gradients)
        for left, right in zip(found, expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)
    assert found[0].stride() == start[0].stride()


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_embeddings_with_sparse_gradients_train_as_dense_ones(momentum):
    data = {"inputs": torch.arange(30) % 7, "labels": torch.arange(30) % 3}
    settings = Training(epochs=2, batch_size=8, learning_rate=0.3, momentum=momentum)
    sparse, dense = (
        train_model(
            lambda kind=kind: nn.Embedding(7, 3, sparse=kind).double(),
            Classification(),
            data,
            np.arange(20),
            settings,
            0,
        )
        for kind in (True, False)
    )
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_rows_are_selected_of_every_array(shape):
    given = {"inputs": torch.randn(9, 2, 3).transpose(1, 2), "labels": torch.arange(9), "flags": torch.arange(9) > 4}
    rows = torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(0))
    found = select_rows(given, rows)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert torch.equal(found[name], array[rows])


def test_a_run_that_stops_early_is_the_first_part_of_the_whole_one():
    data, indices = arrays(), np.arange(20)
    settings = Training(epochs=4, batch_size=8, learning_rate=0.1, schedule="constant")
    early = train_model(factory, Classification(), data, indices, settings, 0, last_epoch=2)
    alone = train(data, indices, epochs=2, schedule="constant")
    for one, other in zip(early.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    # With a schedule over the whole run the steps are larger than those of a short run.
    settings = settings.model_copy(update={"schedule": "linear"})
    early = train_model(factory, Classification(), data, indices, settings, 0, last_epoch=2)
    short = train(data, indices, epochs=2, schedule="linear")
    start = make_model(factory, derive_seed(0, "init"))
    moved = [
        sum(
            float((new - old).detach().abs().sum())
            for new, old in zip(model.parameters(), start.parameters(), strict=True)
        )
        for model in (early, short)
    ]
    assert moved[0] > moved[1]
