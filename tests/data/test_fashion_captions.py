from dataclasses import replace

import numpy as np
import pytest

from trakflow.config.compose import compose_config
from trakflow.data import fashion_captions, fashion_mnist
from trakflow.data.examples import Examples


@pytest.fixture
def images(monkeypatch):
    """Made-up images in the place of the published ones, which need not be here."""
    random = np.random.default_rng(0)
    inputs = (random.random((200, 1, 28, 28)) * random.random((200, 1, 1, 1))).astype(np.float32)
    examples = Examples({"inputs": inputs, "labels": np.arange(200) % 10}, [f"train-{row}" for row in range(200)])
    monkeypatch.setattr(
        fashion_mnist,
        "train",
        lambda size, folder, cache: replace(
            examples, arrays={name: value[:size] for name, value in examples.arrays.items()}, ids=examples.ids[:size]
        ),
    )
    return examples


def test_captions_name_the_class_and_tokens_spell_the_captions(images):
    found = fashion_captions.train(200)
    assert set(found.arrays) == {"inputs", "tokens"}
    words = ("", *fashion_captions.WORDS)
    for text, tokens, group, label in zip(
        found.texts, found.arrays["tokens"], found.groups, images.arrays["labels"], strict=True
    ):
        assert " ".join(words[token] for token in tokens if token).replace(" ,", ",") == text
        assert group == fashion_captions.NOUNS[label][0]
        assert len({*text.replace(",", "").split()} & {*fashion_captions.NOUNS[label]}) == 1
    assert len(set(found.texts)) > 50


def test_a_caption_is_a_function_of_the_image_alone(images):
    whole, part = fashion_captions.train(200), fashion_captions.train(20)
    assert list(part.texts) == list(whole.texts[:20])
    np.testing.assert_array_equal(part.arrays["tokens"], whole.arrays["tokens"][:20])


@pytest.mark.parametrize(
    ("ink", "words"),
    [
        (np.full((28, 28), 0.3), {"light", "plain"}),
        (np.full((28, 28), 0.6), {"grey", "plain"}),
        (np.full((28, 28), 0.9), {"dark", "plain"}),
        (np.where(np.arange(28) % 2, np.full((28, 28), 0.9), 0.3), {"grey", "patterned"}),
        (np.zeros((28, 28)), {"light", "plain"}),
    ],
)
def test_captions_say_what_the_pixels_look_like(ink, words):
    text = fashion_captions.caption(ink.astype(np.float32), 3, "train-0")
    assert {*text.split()} & {*fashion_captions.TONES, *fashion_captions.SURFACES} == words


def test_every_caption_can_be_encoded_and_others_cannot():
    for template in fashion_captions.TEMPLATES:
        for noun in (noun for pair in fashion_captions.NOUNS for noun in pair):
            text = template.format(tone="dark", surface="plain", noun=noun)
            assert (fashion_captions.encode([text]) != 0).sum() == len(text.split())
    with pytest.raises(KeyError):
        fashion_captions.encode(["a green dress"])
    with pytest.raises(ValueError, match="more than 7 words"):
        fashion_captions.encode(["a a a a a a a a"])


def test_the_models_vocabulary_is_that_of_the_captions():
    assert compose_config("fashion_clip").model["vocabulary"] == len(fashion_captions.WORDS) + 1
    assert len(set(fashion_captions.WORDS)) == len(fashion_captions.WORDS)
