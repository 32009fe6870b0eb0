"""The output function of CLIP, its derivatives, and what it compares with."""

import math

import numpy as np
import pytest
import torch

from pairs import pairs, tiny_model
from trakflow.errors import ConfigError
from trakflow.tasks.clip import CLIP, References, fingerprints
from trakflow.tasks.preparation import prepared, reference_rows

SIZE = 4


def normalised(count, seed):
    found = torch.randn(count, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return found / found.norm(dim=1, keepdim=True)


def problem(scale=3.0, count=6, references=7):
    """A prepared task, `raw` and a batch; the second example is the third reference."""
    batch, others = pairs(count, 1), pairs(references, 2)
    for name, value in batch.items():
        value[1] = others[name][2]
    image, text = normalised(count, 3), normalised(count, 4)
    task = CLIP(references)
    task._references = References(normalised(references, 5), normalised(references, 6), fingerprints(others))
    raw = torch.cat([image, text, torch.full((count, 1), scale, dtype=torch.float64)], dim=1)
    return task, raw, batch


def by_hand(task, raw, scale=3.0):
    """p and q of each example in plain numpy, by the softmax over the references and the example itself."""
    references = task._references
    found = []
    for row in range(len(raw)):
        kept = [j for j in range(len(references.image)) if (row, j) != (1, 2)]
        u, v = raw[row, :SIZE].numpy(), raw[row, SIZE : 2 * SIZE].numpy()
        own = np.exp(scale * (u @ v))
        texts = np.exp(scale * (references.text[kept].numpy() @ u)).sum()
        images = np.exp(scale * (references.image[kept].numpy() @ v)).sum()
        found.append((own / (own + texts), own / (own + images)))
    return np.array(found).T


def test_output_is_the_sum_of_both_log_odds():
    task, raw, batch = problem()
    p, q = by_hand(task, raw)
    np.testing.assert_allclose(task.output(raw, batch).numpy(), np.log(p / (1 - p)) + np.log(q / (1 - q)), rtol=1e-10)


def test_q_and_w_are_finite_differences_of_the_loss_by_f():
    # Raising a pair's own similarity by t/2 raises both log-odds by t/2, so f by t, and changes nothing else.
    task, raw, batch = problem()
    p, q = by_hand(task, raw)
    odds = np.log(p / (1 - p)), np.log(q / (1 - q))

    def loss(by):
        return sum(np.log1p(np.exp(-(one + by / 2))) for one in odds)

    step = 1e-4
    first = (loss(step) - loss(-step)) / (2 * step)
    second = (loss(step) - 2 * loss(0.0) + loss(-step)) / step**2
    found = task.loss_gradient(raw, batch), task.curvature(raw, batch)
    assert found[0].dtype == found[1].dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), -first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1].numpy(), second, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_batch_is_that_of_its_references_and_itself():
    # With the other pairs of the batch as references, the loss that is trained by is the one that Q and W are of.
    _, raw, _ = problem()
    batch = pairs(len(raw), 1)
    task = CLIP(len(raw))
    task._references = References(raw[:, :SIZE], raw[:, SIZE : 2 * SIZE], fingerprints(batch))
    odds = task._log_odds(raw, batch)
    expected = sum(torch.log1p(torch.exp(-one)) for one in odds)
    torch.testing.assert_close(task.loss(raw, batch), expected)


def test_loss_is_twice_that_of_the_published_implementations():
    _, raw, batch = problem()
    similarity = 3.0 * raw[:, :SIZE] @ raw[:, SIZE : 2 * SIZE].T
    expected = (-similarity.log_softmax(1).diag() - similarity.log_softmax(0).diag()).mean()
    torch.testing.assert_close(CLIP().loss(raw, batch).mean(), expected)


def test_an_example_is_not_compared_with_itself_and_is_known_by_both_parts():
    task, _, batch = problem()
    assert task._references.are(batch).nonzero().tolist() == [[1, 2]]
    padded = {**batch, "tokens": torch.nn.functional.pad(batch["tokens"], (0, 5))}
    assert task._references.are(padded).nonzero().tolist() == [[1, 2]]
    for name in ("inputs", "tokens"):
        changed = {**batch, name: batch[name].clone()}
        changed[name][1, -1] += 1
        assert not task._references.are(changed).any()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_an_example_has_the_same_f_in_any_batch(count):
    model, batch = tiny_model(), pairs(8, 7)
    task = prepared(CLIP(5), model, pairs(5, 8))
    whole = task.output(task.forward(model, batch), batch)
    parts = [
        task.output(task.forward(model, part), part)
        for start in range(0, 8, count)
        for part in [{name: value[start : start + count] for name, value in batch.items()}]
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-10, atol=1e-12)


def test_references_are_embedded_by_the_model_at_hand_and_hold_no_gradient():
    first, second = tiny_model(seed=1), tiny_model(seed=2)
    others = pairs(300, 8)
    task = CLIP(5)
    one, two = (prepared(task, model, others) for model in (first, second))
    assert task._references is None
    for found, model in ((one, first), (two, second)):
        image, text, _ = model(others["inputs"], others["tokens"])
        assert not found._references.image.requires_grad
        torch.testing.assert_close(found._references.image, image)
        torch.testing.assert_close(found._references.text, text)
    assert not torch.allclose(one._references.image, two._references.image)


def test_references_are_a_function_of_the_seed_and_the_size_alone():
    rows = reference_rows(CLIP(50, seed=1), 400)
    assert len(set(rows.tolist())) == 50
    assert rows.tolist() == sorted(rows.tolist()) == reference_rows(CLIP(50, seed=1), 400).tolist()
    assert rows.max() < 400
    assert rows.tolist() != reference_rows(CLIP(50, seed=2), 400).tolist()


def test_gradients_are_finite_differences_of_f_with_references_held_fixed():
    model, batch = tiny_model(), pairs(3, 7)
    task = prepared(CLIP(5), model, pairs(5, 8))
    parameters = dict(model.named_parameters())
    task.output(task.forward(model, batch), batch).sum().backward()
    random = torch.Generator().manual_seed(9)
    for name, value in parameters.items():
        direction = torch.randn(value.shape, dtype=value.dtype, generator=random)
        sides = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                value.add_(direction, alpha=step)
                sides.append(float(task.output(task.forward(model, batch), batch).sum()))
                value.sub_(direction, alpha=step)
        expected = (sides[0] - sides[1]) / 2e-6
        assert float((value.grad * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_model_may_return_a_tuple_or_the_dictionary_of_open_clip(as_dictionary):
    inner, batch = tiny_model(), pairs(3, 7)

    class Returning(torch.nn.Module):
        def forward(self, image, text):
            found = inner(image, text)
            names = ("image_features", "text_features", "logit_scale")
            return dict(zip(names, found, strict=True)) if as_dictionary else found

    raw = CLIP().forward(Returning(), batch)
    assert raw.shape == (3, 2 * inner.image.layers[-1].out_features + 1)
    torch.testing.assert_close(raw, CLIP().forward(inner, batch))
    assert float(raw[0, -1].detach()) == pytest.approx(math.exp(float(inner.logit_scale.detach())))


@pytest.mark.parametrize(
    ("returned", "interface"),
    [
        (torch.zeros(3, 4), "open_clip"),
        ((torch.zeros(3, 4), torch.zeros(3, 5), torch.ones(())), "open_clip"),
        ((torch.zeros(3, 4), torch.zeros(3, 4)), "open_clip"),
        # With a bias it is a model of another loss.
        ((torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(()), torch.zeros(())), "open_clip"),
        ({"image_features": torch.zeros(3, 4), "text_features": torch.zeros(3, 4)}, "open_clip"),
        ((torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(())), "transformers"),
    ],
)
def test_a_model_that_returns_something_else_is_refused(returned, interface):
    with pytest.raises(ConfigError, match=f"does not return what task.interface={interface} says"):
        CLIP(interface=interface).forward(lambda *args, **kwargs: returned, pairs(3, 7))


def test_what_is_missing_is_said():
    model, batch = tiny_model(), pairs(3, 7)
    raw = CLIP().forward(model, batch)
    for call in (CLIP().output, CLIP().loss_gradient, CLIP().curvature):
        with pytest.raises(ConfigError, match="reference pairs, which have not been embedded"):
            call(raw, batch)
    with pytest.raises(ConfigError, match="reference examples, which are missing"):
        prepared(CLIP(), model, None)
    with pytest.raises(ConfigError, match="tokens is missing"):
        CLIP().forward(model, {"inputs": batch["inputs"], "labels": batch["tokens"]})
    with pytest.raises(ConfigError, match=r"simulated_batch_size=300, but there are only 40.*data\.train_size"):
        reference_rows(CLIP(), 40)
    with pytest.raises(ConfigError, match="at least 2 pairs"):
        CLIP(1)
    with pytest.raises(ConfigError, match="must be open_clip or transformers"):
        CLIP(interface="clip")
