"""BertClassifier against transformers' own masks, and where it must work."""

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, vmap

from tiny_bert import bert, padded, sentences
from trakflow.config.attribution import Sketch as SketchSettings
from trakflow.config.training import Training
from trakflow.errors import CheckpointError, DataError
from trakflow.models.bert import BertClassifier, bert_classifier
from trakflow.models.weights import load_weights
from trakflow.sketches.build import build_sketch
from trakflow.tasks.text_classification import TextClassification
from trakflow.training.ensemble import ensemble_outputs, train_ensemble

TASK = TextClassification()
SKETCHES = {
    "tensor_sketch": {"k": 48},
    "factorized": {"side": 4},
    "sjlt": {"k": 48},
    "identity": {},
}


def classifier(attention="eager", **settings):
    model = BertClassifier(bert(attn_implementation=attention), 2, **settings)
    return model.double().eval()


def sketch(name, model):
    settings = SketchSettings(name=name, **{"k": None, **SKETCHES[name]})
    return build_sketch(settings, model, TASK, seed=0, checkpoint=0, device="cpu")


@pytest.fixture
def folder(tmp_path):
    bert().save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_logits_are_those_of_each_sentence_alone_by_transformers(attention, pooling):
    model = classifier(attention, pooling=pooling)
    found = TASK.forward(model, padded(sentences(), length=11))
    for row, sentence in enumerate(sentences()):
        states = model.bert(input_ids=sentence["tokens"][None], token_type_ids=sentence["types"][None])[0][0]
        pooled = states.mean(dim=0) if pooling == "mean" else states[0]
        torch.testing.assert_close(found[row], model.classifier(pooled))


def test_without_a_mask_every_token_is_seen():
    model, tokens = classifier(), torch.arange(1, 9).reshape(2, 4)
    assert torch.equal(model(tokens), model(tokens, torch.ones_like(tokens)))


@pytest.mark.parametrize("name", list(SKETCHES))
def test_padding_changes_no_feature_output_or_weight(name):
    made = sketch(name, classifier(freeze_embeddings=name == "factorized"))
    plain, longer = (made(padded(sentences(), length)) for length in (None, 12))
    alone = [made(padded([sentence])) for sentence in sentences()]
    for value in ("features", "outputs", "loss_gradients", "curvatures"):
        expected = getattr(plain, value)
        close = {"rtol": 1e-5, "atol": 1e-6 * float(expected.abs().max())}
        torch.testing.assert_close(getattr(longer, value), expected, **close)
        torch.testing.assert_close(torch.cat([getattr(each, value) for each in alone]), expected, **close)


@pytest.mark.parametrize("frozen", [False, True])
def test_features_are_finite_differences_of_f_by_the_trained_parameters(frozen):
    model, batch = classifier(freeze_embeddings=frozen), padded(sentences())
    found = sketch("identity", model)(batch).features.double()
    parameters = dict(model.named_parameters())
    assert found.shape[1] == sum(value.numel() for value in parameters.values())
    assert any("embeddings" in name for name in parameters) != frozen
    step, start = 1e-5, 0
    for value in parameters.values():
        entry = value.numel() // 2
        outputs = []
        for by in (step, -step):
            with torch.no_grad():
                value.view(-1)[entry] += by
                outputs.append(TASK.output(TASK.forward(model, batch), batch))
                value.view(-1)[entry] -= by
        expected = (outputs[0] - outputs[1]) / (2 * step)
        torch.testing.assert_close(found[:, start + entry], expected, rtol=1e-4, atol=1e-6)
        start += value.numel()


def test_gradients_under_vmap_are_those_one_by_one():
    model, batch = classifier(), padded(sentences())

    def f(parameters, example):
        one = {name: value[None] for name, value in example.items()}
        return TASK.output(TASK.forward(lambda **inputs: functional_call(model, parameters, (), inputs), one), one)[0]

    parameters = {name: value.detach() for name, value in model.named_parameters()}
    together = vmap(grad(f), in_dims=(None, 0))(parameters, batch)
    for row in range(2):
        alone = grad(f)(parameters, {name: value[row] for name, value in batch.items()})
        for name, value in alone.items():
            torch.testing.assert_close(together[name][row], value)


def test_stacked_training_gives_the_weights_of_training_one_by_one(folder):
    def factory():
        return bert_classifier(2, layers=1, freeze_embeddings=True, dropout=0.0, pretrained=folder).double()

    data = padded(sentences(12))
    masks = np.stack([np.random.default_rng(number).permutation(12) < 6 for number in range(3)])
    stacked, alone = (
        train_ensemble(
            factory, TASK, data, masks, Training(epochs=2, batch_size=4, learning_rate=0.1, ensemble=ensemble), range(3)
        )
        for ensemble in (True, False)
    )
    assert stacked.keys() == alone.keys()
    assert not any("embeddings." in name for name in stacked)
    for name, value in alone.items():
        torch.testing.assert_close(stacked[name], value, rtol=1e-8, atol=1e-10)
    assert ensemble_outputs(factory, TASK, stacked, data, 5).shape == (3, 12)


def test_frozen_embeddings_are_shared_by_all_models_and_in_no_checkpoint(folder):
    one, other = (bert_classifier(2, freeze_embeddings=True, pretrained=folder) for _ in range(2))
    words = [model.bert.embeddings.word_embeddings.weight for model in (one, other)]
    assert words[0].data_ptr() == words[1].data_ptr()
    assert torch.equal(words[0], bert().embeddings.word_embeddings.weight)
    layers = [model.bert.encoder.layer[0].output.dense.weight for model in (one, other)]
    assert layers[0].data_ptr() != layers[1].data_ptr()
    assert not any("embeddings." in name for name in one.state_dict())
    load_weights(other, one.state_dict(), "one")


def test_a_checkpoint_of_other_frozen_embeddings_is_refused(folder, tmp_path):
    changed = bert()
    with torch.no_grad():
        changed.embeddings.word_embeddings.weight[5, 3] += 1e-3
    changed.save_pretrained(tmp_path / "changed")
    one, other = (
        bert_classifier(2, freeze_embeddings=True, pretrained=name) for name in (folder, str(tmp_path / "changed"))
    )
    with pytest.raises(CheckpointError, match="other embeddings than those of `pretrained`"):
        load_weights(other, one.state_dict(), "one")


def test_layers_and_dropout_are_as_asked_for(folder):
    model = bert_classifier(3, layers=1, dropout=0.25, pretrained=folder)
    assert len(model.bert.encoder.layer) == 1
    assert model.classifier.out_features == 3
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}
    expected = bert().encoder.layer[0].output.dense.weight
    assert torch.equal(model.bert.encoder.layer[0].output.dense.weight, expected)


def test_what_is_no_whole_bert_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"lacks 16 weights of a BERT.*fewer than 3 layers"):
        bert_classifier(2, layers=3, pretrained=folder)
    with pytest.raises(DataError, match="holds no BERT"):
        bert_classifier(2, pretrained=str(tmp_path / "nowhere"))
