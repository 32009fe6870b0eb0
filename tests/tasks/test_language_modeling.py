import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from trakflow.errors import ConfigError, NumericalError
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.identity import Identity
from trakflow.tasks.base import Task
from trakflow.tasks.classification import Classification
from trakflow.tasks.language_modeling import LogOdds, LogProbability

TASKS = [LogProbability(), LogOdds()]
VOCABULARY = 7


def batch(count=20, length=6, scale=1.0):
    """Logits and a batch in which sequences end early, prompts have no labels, and padding holds any tokens."""
    random = torch.Generator().manual_seed(0)
    raw = scale * torch.randn(count, length, VOCABULARY, dtype=torch.float64, generator=random)
    ids = torch.randint(0, VOCABULARY, (count, length), generator=random)
    ends = torch.randint(3, length + 1, (count, 1), generator=random)
    prompts = torch.randint(0, 2, (count, 1), generator=random)
    places = torch.arange(length)
    mask = (places < ends).long()
    return raw, {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(places < prompts, -100)}


def mean_log_probability(raw, given):
    """By a loop over tokens, in numpy."""
    found = []
    for row in range(len(raw)):
        logs = []
        for place in range(1, raw.shape[1]):
            if given["attention_mask"][row, place] and given["labels"][row, place] != -100:
                logits = raw[row, place - 1].numpy()
                logs.append(logits[given["labels"][row, place]] - np.log(np.exp(logits).sum()))
        found.append(np.mean(logs))
    return np.array(found)


def test_outputs_are_the_mean_log_probability_and_its_log_odds():
    raw, given = batch()
    expected = mean_log_probability(raw, given)
    p = np.exp(expected)
    np.testing.assert_allclose(LogProbability().output(raw, given), expected, rtol=1e-12)
    np.testing.assert_allclose(LogOdds().output(raw, given), np.log(p / (1 - p)), rtol=1e-12, atol=1e-12)
    for task in TASKS:
        np.testing.assert_allclose(task.loss(raw, given), -expected, rtol=1e-12)


def test_without_labels_all_tokens_count_but_padding_and_the_first():
    raw, given = batch()
    plain = {"input_ids": given["input_ids"]}
    everything = {"attention_mask": torch.ones_like(given["input_ids"]), "labels": given["input_ids"]}
    np.testing.assert_allclose(LogProbability().output(raw, plain), mean_log_probability(raw, everything), rtol=1e-12)


def test_one_labelled_token_is_a_classification_of_it():
    raw, given = batch()
    labels = torch.full_like(given["input_ids"], -100)
    labels[:, 2] = given["input_ids"][:, 2]
    one, token = {**given, "labels": labels}, {"labels": given["input_ids"][:, 2]}
    for name in ("output", "loss_gradient", "curvature", "loss"):
        torch.testing.assert_close(
            getattr(LogOdds(), name)(raw, one), getattr(Classification(), name)(raw[:, 1], token), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("direction", range(3))
def test_q_and_w_are_finite_differences_of_the_loss_by_f_along_any_change_of_the_logits(task, direction):
    raw, given = batch()
    random = torch.Generator().manual_seed(direction)
    # Mostly towards the tokens, so that f changes in every sequence.
    tokens = nn.functional.one_hot(given["input_ids"].roll(-1, 1), VOCABULARY)
    change = tokens + 0.3 * torch.randn(raw.shape, dtype=torch.float64, generator=random)
    points = [raw + step * change for step in (-1e-4, 0.0, 1e-4)]
    f = [task.output(point, given) for point in points]
    loss = [task.loss(point, given) for point in points]
    slopes = [(loss[1] - loss[0]) / (f[1] - f[0]), (loss[2] - loss[1]) / (f[2] - f[1])]
    first, second = (loss[2] - loss[0]) / (f[2] - f[0]), 2 * (slopes[1] - slopes[0]) / (f[2] - f[0])
    torch.testing.assert_close(task.loss_gradient(raw, given).double(), -first, rtol=1e-5, atol=1e-6)
    curvature = task.curvature(raw, given)
    if isinstance(task, LogOdds):
        assert float(curvature.min()) > 0.01
        torch.testing.assert_close(curvature.double(), second, rtol=1e-3, atol=1e-5)
    else:
        assert curvature is None
        assert type(task).curvature is Task.curvature
        torch.testing.assert_close(second, torch.zeros_like(second), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("logit", [17.0, 30.0, 60.0])
def test_q_and_w_keep_their_digits_where_p_rounds_to_one(logit, dtype):
    raw = torch.zeros(1, 3, 2, dtype=dtype)
    raw[..., 1] = logit
    raw.requires_grad_()
    given = {"input_ids": torch.ones(1, 3, dtype=torch.int64)}
    output = LogOdds().output(raw, given)
    assert output.item() == pytest.approx(logit, rel=1e-5)
    assert torch.autograd.grad(output.sum(), raw)[0][0, :2, 1].sum().item() == pytest.approx(1, rel=1e-2)
    q, w = LogOdds().loss_gradient(raw, given), LogOdds().curvature(raw, given)
    assert q.dtype == w.dtype == torch.float32
    assert q.item() == pytest.approx(1 / (1 + np.exp(logit)), rel=1e-4)
    assert w.item() == pytest.approx(1 / (1 + np.exp(logit)), rel=1e-4)


def test_a_surely_wrong_sequence_has_finite_output_and_gradient():
    raw = torch.zeros(1, 3, 2)
    raw[..., 1] = -200.0
    raw.requires_grad_()
    output = LogOdds().output(raw, {"input_ids": torch.ones(1, 3, dtype=torch.int64)})
    assert output.item() == pytest.approx(-200)
    gradient = torch.autograd.grad(output.sum(), raw)[0][0, :2, 1]
    torch.testing.assert_close(gradient, torch.full((2,), 0.5))


def gpt2():
    torch.manual_seed(0)
    settings = {"n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2, "attn_implementation": "eager"}
    return (
        GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, **settings))
        .double()
        .eval()
    )


def gradients(task, given):
    model = gpt2()
    parameters = dict(model.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    return GradientSketch(model, task, Identity(sizes), parameters)(given)


@pytest.mark.parametrize("task", TASKS)
def test_padding_changes_nothing(task):
    _, given = batch(count=4)
    ids = given["input_ids"][:, :4]
    short = gradients(task, {"input_ids": ids})
    for filler in (0, 3):
        padded = nn.functional.pad(ids, (0, 3), value=filler)
        mask = nn.functional.pad(torch.ones_like(ids), (0, 3))
        long = gradients(task, {"input_ids": padded, "attention_mask": mask})
        # Of all parameters but the embeddings of positions that only padding has, which stay zero.
        for name in ("features", "outputs", "loss_gradients"):
            torch.testing.assert_close(getattr(long, name), getattr(short, name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("task", TASKS)
def test_a_sequence_in_which_nothing_is_labelled_is_refused_by_name(task):
    _, given = batch(count=3)
    labels = given["labels"].clone()
    labels[1] = -100
    found = gradients(task, {**given, "labels": labels})
    assert found.finite_rows().tolist() == [True, False, True]
    with pytest.raises(NumericalError, match="examples 8"):
        found.require_finite([7, 8, 9])


def test_a_model_that_returns_no_logits_of_tokens_is_refused():
    given = {"input_ids": torch.zeros(1, 3, dtype=torch.int64)}
    with pytest.raises(ConfigError, match=r"\(1, 3\) for tokens of shape \(1, 3\).*vocabulary"):
        LogOdds().forward(lambda input_ids: input_ids.float(), given)
    with pytest.raises(ConfigError, match="returns tuple"):
        LogOdds().forward(lambda input_ids: (input_ids,), given)
    with pytest.raises(ConfigError, match="num_classes is 5"):
        LogOdds().check(torch.zeros(1, 3, 5), 5)


def test_token_numbers_may_be_called_inputs_and_other_entries_go_to_the_model():
    raw, given = batch(count=2)
    named = {"inputs" if name == "input_ids" else name: value for name, value in given.items()}
    asked = []

    def model(**arguments):
        asked.append(arguments)
        return raw

    for entries in (given, named):
        task = LogProbability()
        np.testing.assert_allclose(task.output(task.forward(model, entries), entries), mean_log_probability(raw, given))
    assert [list(arguments) for arguments in asked] == [["input_ids", "attention_mask"]] * 2
    assert asked[1]["input_ids"] is given["input_ids"]
