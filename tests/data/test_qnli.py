"""Reading pairs from files of the hub's and of GLUE's own form."""

import json

import numpy as np
import pandas as pd
import pytest

from trakflow.data import qnli
from trakflow.errors import DataError
from word_pieces import numbers, write_tokenizer

PAIRS = [("who wrote it", "she did", 0), ("who did it", "a fine film", 1), ("who did", "she wrote it", 1)] * 3


@pytest.fixture
def tokenizer(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer")


def write(folder, form, pairs=PAIRS):
    folder.mkdir()
    table = pd.DataFrame(pairs, columns=["question", "sentence", "label"])
    table["idx"] = range(len(table))
    for beginning in ("train", "dev" if form == "tsv" else "validation"):
        if form == "parquet":
            table.to_parquet(folder / f"{beginning}-00000-of-00001.parquet")
        elif form == "jsonl":
            lines = [json.dumps(row) for row in table.to_dict("records")]
            (folder / f"{beginning}.jsonl").write_text("\n".join(lines))
        else:
            names = table["label"].map(dict(enumerate(qnli.CLASS_NAMES)))
            lines = [f"{row.idx}\t{row.question}\t{row.sentence}\t{names[row.idx]}" for row in table.itertuples()]
            (folder / f"{beginning}.tsv").write_text("\n".join(["index\tquestion\tsentence\tlabel", *lines]) + "\n")
    return str(folder)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "tsv"])
@pytest.mark.parametrize("part", ["train", "targets"])
def test_every_form_gives_the_pairs(tmp_path, tokenizer, form, part):
    folder = write(tmp_path / "data", form)
    read = getattr(qnli, part)
    found = read(9, 10, folder, str(tmp_path / "cache"), tokenizer)
    assert sorted(found.ids) == sorted(f"{'train' if part == 'train' else 'validation'}-{row}" for row in range(9))
    for row, name in enumerate(found.ids):
        question, sentence, label = PAIRS[int(name.rpartition("-")[2])]
        first, second = numbers(question), numbers(sentence)[1:]
        together = first + second
        padding = [0] * (10 - len(together))
        assert found.arrays["inputs"][row].tolist() == together + padding
        assert found.arrays["attention_mask"][row].tolist() == [1] * len(together) + padding
        assert found.arrays["token_type_ids"][row].tolist() == [0] * len(first) + [1] * len(second) + padding
        assert found.arrays["labels"][row] == label
        assert found.texts[row] == f"{question} \N{EM DASH} {sentence}"
    assert all(array.dtype == np.int64 for array in found.arrays.values())
    few = read(4, 10, folder, str(tmp_path / "cache"), tokenizer)
    assert list(few.ids) == list(found.ids[:4])


def test_quotation_marks_stand_for_themselves(tmp_path, tokenizer):
    folder = write(tmp_path / "data", "tsv", [('who wrote "it', 'she "did', 0), ("who", 'a "film"', 1)])
    found = qnli.train(2, 10, folder, str(tmp_path / "cache"), tokenizer)
    assert sorted(found.texts) == ['who wrote "it \N{EM DASH} she "did', 'who \N{EM DASH} a "film"']


def test_what_is_not_qnli_is_refused(tmp_path, tokenizer):
    def read(folder, size=2):
        return qnli.train(size, 10, str(folder), str(tmp_path / "cache"), tokenizer)

    with pytest.raises(DataError, match="holds no file whose name begins with train"):
        read(tmp_path)
    folder = write(tmp_path / "few", "parquet")
    with pytest.raises(DataError, match=r"10 pairs were asked for.* has 9"):
        read(folder, 10)
    folder = write(tmp_path / "test", "parquet", [("who", "she", -1)] * 2)
    with pytest.raises(DataError, match="Labels of QNLI are 0, 1"):
        read(folder)
    folder = write(tmp_path / "unlabelled", "parquet", [("who", "she", None)] * 2)
    with pytest.raises(DataError, match="Labels of QNLI are 0, 1"):
        read(folder)
    folder = write(tmp_path / "untold", "jsonl", [("who", None, 0), ("who", "she", 1)])
    with pytest.raises(DataError, match="no text"):
        read(folder)
    (tmp_path / "other").mkdir()
    pd.DataFrame({"sentence": ["she"], "label": [0]}).to_parquet(tmp_path / "other" / "train.parquet")
    with pytest.raises(DataError, match="lacks question"):
        read(tmp_path / "other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read"):
        read(tmp_path / "damaged")
