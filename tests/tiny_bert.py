"""A BERT small enough for tests, and sentences of different lengths for it."""

import torch
from torch.nn.utils.rnn import pad_sequence

WORDS, LONGEST = 30, 12


def settings(**changes):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=WORDS,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=LONGEST,
        **{"attn_implementation": "eager", **changes},
    )


def bert(**changes):
    from transformers import BertModel

    torch.manual_seed(0)
    return BertModel(settings(**changes), add_pooling_layer=False)


def sentence_classifier(**changes):
    """A model of transformers, as its users have it."""
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(settings(num_labels=2, **changes)).eval()


def sentences(count=7):
    """Token numbers of sentences of 3 to 9 tokens, their types and labels."""
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 10, (count,), generator=random).tolist()
    tokens = [torch.randint(1, WORDS, (length,), generator=random) for length in lengths]
    return [
        {"tokens": own, "types": (torch.arange(len(own)) > 1).long(), "label": torch.tensor(number % 2)}
        for number, own in enumerate(tokens)
    ]


def padded(chosen, length=None, tokens="inputs", types=True):
    """A batch of sentences, padded to the longest or to `length`."""
    names = {tokens: "tokens", **({"token_type_ids": "types"} if types else {})}
    batch = {name: pad_sequence([each[own] for each in chosen], batch_first=True) for name, own in names.items()}
    mask = pad_sequence([torch.ones_like(each["tokens"]) for each in chosen], batch_first=True)
    batch["attention_mask"] = mask
    extra = 0 if length is None else length - mask.shape[1]
    batch = {name: torch.nn.functional.pad(value, (0, extra)) for name, value in batch.items()}
    return {**batch, "labels": torch.stack([each["label"] for each in chosen])}
