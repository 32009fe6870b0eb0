"""Sentences in the forms in which users have them."""

import pytest
import torch
from torch import nn
from trak.modelout_functions import TextClassificationModelOutput

from tiny_bert import padded, sentence_classifier, sentences
from trakflow.errors import ConfigError
from trakflow.tasks.text_classification import TextClassification

TASK = TextClassification()


class Logits(nn.Module):
    """A model of transformers that returns its logits alone, as the paper's library takes it."""

    def __init__(self):
        super().__init__()
        self.model = sentence_classifier()

    def forward(self, **inputs):
        return self.model(**inputs).logits


def test_f_and_q_are_those_of_the_papers_library():
    model, batch = Logits(), padded(sentences())
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    fields = [batch["inputs"], batch["token_type_ids"], batch["attention_mask"], batch["labels"]]
    paper = TextClassificationModelOutput()
    with torch.no_grad():
        raw = TASK.forward(model, batch)
        each = [paper.get_output(model, weights, buffers, *example) for example in zip(*fields, strict=True)]
        torch.testing.assert_close(TASK.output(raw, batch), torch.stack(each), rtol=1e-4, atol=1e-6)
        q = paper.get_out_to_loss_grad(model, weights, buffers, fields)
    torch.testing.assert_close(TASK.loss_gradient(raw, batch), q.squeeze(1))
    assert len(fields) == len(TASK.fields)


def test_an_output_of_transformers_and_its_logits_are_the_same():
    model = Logits()
    one, other = padded(sentences()), padded(sentences(), tokens="input_ids")
    assert torch.equal(TASK.forward(model, one), TASK.forward(model.model, other))


def test_only_what_a_batch_holds_is_handed_to_the_model():
    given = []

    def model(**inputs):
        given.append(set(inputs))
        return torch.zeros(7, 2)

    TASK.forward(model, padded(sentences(), types=False))
    TASK.forward(model, {"input_ids": torch.zeros(7, 3), "labels": torch.zeros(7)})
    assert given == [{"input_ids", "attention_mask"}, {"input_ids"}]


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ConfigError, match=r"have tokens, labels, but no token numbers"):
        TASK.forward(Logits(), {"tokens": torch.zeros(1, 2), "labels": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"returns tuple; it must return logits"):
        TASK.forward(lambda input_ids: (input_ids,), {"inputs": torch.zeros(1, 2)})
