"""A tokenizer of a few words, in the files in which transformers keeps one."""

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "wrote", "it", "she", "did", "a", "fine", "film", "dull"]


def write_tokenizer(folder):
    from transformers import BertTokenizer

    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


def numbers(text):
    """The token numbers of a text of known words, with the special ones."""
    return [WORDS.index("[CLS]"), *(WORDS.index(word) for word in text.split()), WORDS.index("[SEP]")]
