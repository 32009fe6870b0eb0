"""QNLI of GLUE (Wang et al. 2019): does a sentence answer a question? 104,743 + 5,463 pairs.

They are read through the package datasets, from Hugging Face's hub or from files of the same form: parquet as there, or
the tab-separated files of GLUE's own archive.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trakflow.data.examples import Examples
from trakflow.data.tokens import load_tokenizer, token_arrays
from trakflow.errors import DataError
from trakflow.extras import import_extra
from trakflow.seeds import generator
from trakflow.sources import minilm

CACHE = "results/downloads/qnli"
HUB_NAME = "nyu-mll/glue"
CLASS_NAMES = ("entailment", "not_entailment")
COLUMNS = ("question", "sentence", "label")
# How the files of a part begin, on the hub and in GLUE's archive; the labels of the test part are not public.
BEGINNINGS = {"train": ("train",), "validation": ("validation", "dev")}
# What datasets calls the reader of each form, and its arguments. Quotation marks of the sentences stand for themselves.
READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".tsv": ("csv", {"delimiter": "\t", "quoting": 3}),
}


def train(
    size: int = 50_000,
    length: int = 128,
    folder: str | None = None,
    cache: str = CACHE,
    pretrained: str | None = None,
    pretrained_cache: str = minilm.CACHE,
) -> Examples:
    """Return `size` pairs drawn once and for all from the training part.

    Args:
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        length: Tokens of a pair, as for `trakflow.data.tokens.token_arrays`.
        folder: Where files lie that begin with `train`, and with `validation` or `dev` (.parquet, .jsonl, .json or
            .tsv); None has them fetched from the hub.
        cache: Where datasets keeps what it read.
        pretrained: Whose tokenizer: a folder, or a name of the hub; None for MiniLM.
        pretrained_cache: Where MiniLM is kept.

    Returns:
        inputs, attention_mask, token_type_ids (size x length, int64; the last where the tokenizer has it) and labels;
        question and sentence as texts.

    Raises:
        DataError: The pairs or the tokenizer cannot be had, are of another form, or there are fewer pairs.
        ConfigError: The extra `text` is not installed.
    """
    return _part("train", size, length, folder, cache, load_tokenizer(pretrained, pretrained_cache))


def targets(
    size: int = 300,
    length: int = 128,
    folder: str | None = None,
    cache: str = CACHE,
    pretrained: str | None = None,
    pretrained_cache: str = minilm.CACHE,
) -> Examples:
    """Return `size` pairs of the validation part; arguments as for `train`."""
    return _part("validation", size, length, folder, cache, load_tokenizer(pretrained, pretrained_cache))


def _part(part: str, size: int, length: int, folder: str | None, cache: str, tokenizer: object) -> Examples:
    pairs = _from_hub(part, cache) if folder is None else _from_folder(part, Path(folder), cache)
    if missing := set(COLUMNS) - set(pairs.column_names):
        raise DataError(f"QNLI has columns {', '.join(COLUMNS)}, but what was read lacks {', '.join(sorted(missing))}.")
    if size > len(pairs):
        raise DataError(f"{size} pairs were asked for, but this part of QNLI has {len(pairs)}.")
    rows = generator("qnli", part).permutation(len(pairs))[:size]
    chosen = pairs.select(rows)
    questions, answers = list(chosen["question"]), list(chosen["sentence"])
    if not all(isinstance(text, str) for text in questions + answers):
        raise DataError(f"Some questions or sentences of QNLI's part {part} are no text; remove or repair them.")
    arrays = {**token_arrays(tokenizer, questions, length, answers), "labels": _labels(chosen["label"])}
    texts = [f"{question} \N{EM DASH} {answer}" for question, answer in zip(questions, answers, strict=True)]
    return Examples(arrays, [f"{part}-{row}" for row in rows], texts=texts)


def _labels(values: Sequence[Any]) -> np.ndarray:
    """Numbers as on the hub, or names as in GLUE's archive."""
    numbers = {name: number for number, name in enumerate(CLASS_NAMES)}
    found = [numbers.get(value, -1) if isinstance(value, str) else value for value in values]
    if not all(type(value) is int and value in (0, 1) for value in found):
        raise DataError(f"Labels of QNLI are 0, 1 or {', '.join(CLASS_NAMES)}, but there are others.")
    return np.array(found, np.int64)


def _from_hub(part: str, cache: str) -> Any:
    datasets = import_extra("datasets", "text")
    try:
        return datasets.load_dataset(HUB_NAME, "qnli", split=part, cache_dir=cache)
    except (OSError, ValueError) as error:
        raise DataError(
            f"QNLI could not be had from {HUB_NAME} ({' '.join(str(error).split())[:300]}). Download its files by hand "
            "and name their folder with data.train.folder and data.targets.folder."
        ) from error


def _from_folder(part: str, folder: Path, cache: str) -> Any:
    datasets = import_extra("datasets", "text")
    for suffix, (reader, settings) in READERS.items():
        files = sorted(str(path) for path in folder.glob(f"*{suffix}") if path.name.startswith(BEGINNINGS[part]))
        if not files:
            continue
        try:
            return datasets.load_dataset(reader, data_files={part: files}, split=part, cache_dir=cache, **settings)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{', '.join(files)} cannot be read: {' '.join(str(error).split())[:300]}.") from error
    beginnings = " or ".join(BEGINNINGS[part])
    raise DataError(
        f"{folder} holds no file whose name begins with {beginnings} and ends with {', '.join(READERS)}; correct "
        "data's `folder`, or set it to null to have QNLI fetched."
    )
