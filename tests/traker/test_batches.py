"""Batches as loaders give them: dicts, tuples, smaller last ones, sequences padded to different lengths."""

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from traker_problem import TARGETS, TRAIN, N, batches, checkpoints, scores, traker

from trakflow import TRAKer
from trakflow.config.compose import compose_config
from trakflow.errors import DataError, SketchError
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification
from trakflow.traker.batches import named_tensors
from trakflow.traker.hashes import row_hashes

Named = namedtuple("Named", ["images", "classes"])


def encoding(arrays):
    from transformers import BatchEncoding

    return BatchEncoding({"inputs": arrays[0], "labels": arrays[1]})


FORMS = {
    "tuple": tuple,
    "list": list,
    "named tuple": lambda arrays: Named(*arrays),
    "dict in another order": lambda arrays: {"labels": arrays[1], "inputs": arrays[0]},
    "dict with None": lambda arrays: {"inputs": arrays[0], "labels": arrays[1], "token_type_ids": None},
    "UserDict": lambda arrays: UserDict(inputs=arrays[0], labels=arrays[1]),
    "BatchEncoding": encoding,
    "lists of numbers": lambda arrays: {"inputs": arrays[0].tolist(), "labels": arrays[1].tolist()},
}


@pytest.mark.parametrize(("name", "size"), [*((name, 7) for name in FORMS), ("tuple", 8), ("BatchEncoding", N)])
def test_every_form_and_size_of_batches_gives_the_same_scores(tmp_path, name, size):
    """7 leaves a last batch of 5; a loader of 8 has none that is smaller."""
    expected = scores(tmp_path / "expected")
    attributor = traker(tmp_path / "found")
    for model_id, state in enumerate(checkpoints()):
        attributor.load_checkpoint(state, model_id)
        for batch in batches(TRAIN, size):
            attributor.featurize(FORMS[name](batch), num_samples=len(batch[0]))
    attributor.finalize_features()
    for model_id, state in enumerate(checkpoints()):
        attributor.start_scoring_checkpoint("test", state, model_id, len(TARGETS[0]))
        for batch in batches(TARGETS, 4):
            attributor.score(FORMS[name](batch), num_samples=len(batch[0]))
    found = np.array(attributor.finalize_scores("test"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


REFUSED = {
    "a mapping in a tuple": (
        ({"input_ids": torch.ones(2, 3)}, torch.ones(2)), r"'inputs'.* is a mapping itself.*\{\*\*inputs"
    ),
    "strings": ({"inputs": torch.ones(2, 3), "labels": ["a", "b"]}, r"'labels' of the batch is list, not a tensor"),
    "ragged lists": ({"inputs": [[1, 2], [3]], "labels": [0, 1]}, r"'inputs' of the batch is list, not a tensor"),
    "different lengths": ({"inputs": torch.ones(2, 3), "labels": torch.ones(3)}, r"same number of examples"),
    "nothing": ({"inputs": None}, r"The batch is empty"),
    "a number": (5, r"must be a tuple of tensors or a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_batch_is_refused(case):
    batch, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        named_tensors(batch, ("inputs", "labels"))


def sequences(lengths, seed=0, pad=0):
    """Tokens of some lengths, padded to the longest, their mask and labels."""
    random, longest = np.random.default_rng(seed), max(lengths)
    tokens, mask = np.full((len(lengths), longest), pad), np.zeros((len(lengths), longest), dtype=np.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length], mask[row, :length] = random.integers(1, 11, length), 1
    return {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}


def padded(batch, before, after, value=0):
    return {
        name: nn.functional.pad(tensor, (before, after), value=0 if name == "attention_mask" else value)
        for name, tensor in batch.items()
    }


LENGTHS = [5, 2, 4, 1]


@pytest.mark.parametrize(("before", "after"), [(0, 3), (2, 0), (1, 4)])
@pytest.mark.parametrize("value", [0, 7])
def test_padding_is_no_part_of_an_example(before, after, value):
    batch = sequences(LENGTHS)
    np.testing.assert_array_equal(row_hashes(padded(batch, before, after, value)), row_hashes(batch))
    labelled = {**batch, "labels": torch.arange(len(LENGTHS))}
    other = {**padded(batch, before, after, value), "labels": torch.arange(len(LENGTHS))}
    np.testing.assert_array_equal(row_hashes(other), row_hashes(labelled))
    embedded = {"inputs_embeds": torch.randn(4, 5, 3), "attention_mask": batch["attention_mask"]}
    wider = {
        "inputs_embeds": nn.functional.pad(embedded["inputs_embeds"], (0, 0, before, after), value=value),
        "attention_mask": padded(batch, before, after)["attention_mask"],
    }
    np.testing.assert_array_equal(row_hashes(wider), row_hashes(embedded))


def test_everything_else_is():
    batch = sequences(LENGTHS)
    plain = row_hashes(batch)
    changes = {
        "a token": lambda other: other["input_ids"][0, 4].add_(1),
        "a shorter mask": lambda other: other["attention_mask"][0, 4].zero_(),
        "a token that was masked": lambda other: other["attention_mask"][1, 2].fill_(1),
        "a hole": lambda other: other["attention_mask"][0, 2].zero_(),
    }
    for what, change in changes.items():
        other = {name: tensor.clone() for name, tensor in batch.items()}
        change(other)
        differs = (row_hashes(other) != plain).any(axis=(1, 2))
        assert differs.tolist() == [row == (1 if "masked" in what else 0) for row in range(4)], what
    # Where the hole is matters, though the tokens that are left are the same ones.
    same = {"input_ids": torch.full((1, 5), 3), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    holes = []
    for place in (1, 2):
        other = {name: tensor.clone() for name, tensor in same.items()}
        other["attention_mask"][0, place] = 0
        holes.append(row_hashes(other))
    assert (holes[0] != holes[1]).any()


def test_without_a_mask_or_a_real_token_all_positions_count():
    tokens = sequences(LENGTHS)["input_ids"]
    bare = row_hashes({"input_ids": tokens})
    assert (row_hashes({"input_ids": nn.functional.pad(tokens, (0, 1))}) != bare).any(axis=2).all()
    nothing = {"input_ids": tokens, "attention_mask": torch.zeros_like(tokens)}
    assert len(np.unique(row_hashes(nothing)[:, 0], axis=0)) == 4


def test_a_mask_says_nothing_of_tensors_that_only_share_its_length():
    """An image of 5 channels beside a caption of 5 tokens, and what a decoder has of its own."""
    mask = torch.tensor([[1, 1, 0, 0, 0]])
    images = torch.randn(1, 5, 2, 2)
    other = images.clone()
    other[0, 4] += 1
    first, second = (
        row_hashes({"pixel_values": value, "input_ids": mask, "attention_mask": mask}) for value in (images, other)
    )
    assert (first[:, 1] != second[:, 1]).any()
    decoder = {"input_ids": mask, "attention_mask": mask, "decoder_input_ids": torch.tensor([[4, 5, 6, 7, 8]])}
    decoder["decoder_attention_mask"] = torch.tensor([[1, 1, 1, 1, 0]])
    changed = {**decoder, "decoder_input_ids": torch.tensor([[4, 5, 6, 9, 8]])}
    assert (row_hashes(decoder) != row_hashes(changed)).any()
    ignored = {**decoder, "decoder_input_ids": torch.tensor([[4, 5, 6, 7, 9]])}
    np.testing.assert_array_equal(row_hashes(decoder), row_hashes(ignored))


def gpt2(attention):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 12, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes, attn_implementation=attention)).eval()


def language_traker(folder, count, projector="tensor_sketch", attention="sdpa"):
    """A TRAKer with its only checkpoint loaded."""
    model = gpt2(attention)
    settings = {"device": "cpu", "logging_level": 40, "use_half_precision": False, "proj_dim": 64}
    attributor = TRAKer(model, "language_modeling", count, folder, projector=projector, **settings)
    attributor.load_checkpoint(model.state_dict(), 0)
    return attributor


def of_batches(folder, parts, projector, attention):
    """Features (n x k) of a language model by batches of sequences."""
    attributor = language_traker(folder, sum(len(part["input_ids"]) for part in parts), projector, attention)
    for part in parts:
        attributor.featurize(part, num_samples=len(part["input_ids"]))
    attributor.finalize_features()
    return load_file(folder / "features" / "0" / "0.safetensors")["features"]


def cut(batch, rows):
    """Some sequences, without the padding that only the others need."""
    chosen = {name: tensor[rows] for name, tensor in batch.items()}
    longest = int(chosen["attention_mask"].sum(dim=1).max())
    return {name: tensor[:, :longest] for name, tensor in chosen.items()}


@pytest.mark.parametrize(
    ("projector", "attention"),
    [("tensor_sketch", "sdpa"), ("tensor_sketch", "eager"), ("factorized", "sdpa"), ("sjlt", "eager")],
)
def test_features_do_not_depend_on_the_length_that_a_batch_is_padded_to(tmp_path, projector, attention):
    whole = sequences([3, 9, 2, 4, 6])
    together = of_batches(tmp_path / "together", [whole], projector, attention)
    parts = [cut(whole, slice(0, 2)), cut(whole, slice(2, 4)), cut(whole, slice(4, 5))]
    assert [part["input_ids"].shape[1] for part in parts] == [9, 4, 6]
    apart = of_batches(tmp_path / "apart", parts, projector, attention)
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


def test_a_model_that_looks_at_values_is_refused_by_explicit_sketches(tmp_path):
    with pytest.raises(SketchError, match=r"under torch\.func\.vmap.*tensor_sketch.*attn_implementation='eager'"):
        of_batches(tmp_path, [sequences([3, 2])], "sjlt", "sdpa")


def test_examples_are_known_again_padded_otherwise_and_refused_where_they_differ(tmp_path):
    whole = sequences([3, 9, 2, 4, 6])
    attributor = language_traker(tmp_path, 5)
    attributor.featurize(cut(whole, [0, 2]), inds=[0, 2])
    # Another process, whose batches are other ones.
    attributor = language_traker(tmp_path, 5)
    attributor.featurize(padded(whole, 0, 3), num_samples=5)
    other = {name: tensor.clone() for name, tensor in whole.items()}
    other["input_ids"][2, 1] += 1
    with pytest.raises(DataError, match="Training example 2 is not the one that had this number before"):
        attributor.featurize(other, inds=range(5))


class Flattened(nn.Module):
    """Classifies sequences through a layer that sees all tokens of all examples in one row each."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(12, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        tokens = self.layer(self.embedding(inputs).flatten(0, 1)).tanh()
        return self.head(tokens.unflatten(0, inputs.shape).sum(dim=1))


def test_layers_that_see_tokens_of_all_examples_in_rows_take_batches_of_different_lengths():
    torch.manual_seed(0)
    network = Flattened()
    generator = torch.Generator().manual_seed(1)
    parts = [
        {
            "inputs": torch.randint(12, (size, length), generator=generator),
            "labels": torch.randint(3, (size,), generator=generator),
        }
        for size, length in ((4, 5), (3, 7), (4, 2), (1, 6))
    ]

    def sketch():
        settings = compose_config("digits", ["sketch.k=32"]).sketch
        return build_sketch(settings, network, Classification(), 0, 0, "cpu")

    one = sketch()
    for part in parts:
        found = one(part).features
        for row in range(len(found)):
            alone = {name: value[row : row + 1] for name, value in part.items()}
            torch.testing.assert_close(found[row], sketch()(alone).features[0], rtol=1e-4, atol=1e-5)
