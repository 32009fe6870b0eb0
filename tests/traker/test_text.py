"""TRAKer on models of transformers with the batches that their users have."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding

from tiny_bert import padded, sentence_classifier, sentences
from trakflow import TRAKer
from trakflow.errors import DataError, SketchError

N, M = 7, 3
ORDERS = [[0, 1, 2, 3, 4, 5, 6], [6, 0, 3, 1, 5, 2, 4]]


def batches(order, size=3, **settings):
    """Batches of dicts, each padded to its longest, in an order."""
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, padded([sentences()[row] for row in rows], tokens="input_ids", **settings)


def attributor(folder, model, **settings):
    arguments = {"proj_dim": 32, "logging_level": 40, "use_half_precision": False, **settings}
    return TRAKer(model, "text_classification", train_set_size=N, save_dir=str(folder), device="cpu", **arguments)


def states(count=2):
    return [sentence_classifier(initializer_range=0.5 + number).state_dict() for number in range(count)]


def scores(folder, orders, as_batch=lambda batch: batch, **settings):
    model = sentence_classifier()
    found = attributor(folder, model, **settings)
    for model_id, (state, order) in enumerate(zip(states(), orders, strict=True)):
        found.load_checkpoint(state, model_id)
        for rows, batch in batches(order):
            found.featurize(as_batch(batch), inds=torch.tensor(rows))
    found.finalize_features()
    targets = padded(sentences()[:M], tokens="input_ids")
    for model_id, state in enumerate(states()):
        found.start_scoring_checkpoint("few", state, model_id, num_targets=M)
        found.score(as_batch(targets), num_samples=M)
    return np.asarray(found.finalize_scores("few"))


@pytest.mark.parametrize("projector", ["tensor_sketch", "factorized"])
def test_scores_depend_neither_on_padding_nor_on_order(tmp_path, projector):
    settings = {"projector": projector}
    expected = scores(tmp_path / "plain", [ORDERS[0]] * 2, **settings)
    assert np.abs(expected).max() > 0

    def longer(batch):
        return {
            name: value if name == "labels" else torch.nn.functional.pad(value, (0, 2)) for name, value in batch.items()
        }

    # Shuffled batches are padded to other lengths, yet their examples are known again.
    for number, (orders, as_batch) in enumerate([(ORDERS, dict), (ORDERS[::-1], BatchEncoding), (ORDERS, longer)]):
        found = scores(tmp_path / str(number), orders, as_batch, **settings)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_tuples_in_the_order_of_the_papers_library_give_the_same_scores(tmp_path):
    fields = ("input_ids", "token_type_ids", "attention_mask", "labels")
    expected = scores(tmp_path / "named", ORDERS)
    found = scores(tmp_path / "tuples", ORDERS, lambda batch: tuple(batch[name] for name in fields))
    np.testing.assert_array_equal(found, expected)


def test_another_sentence_under_the_same_number_is_found_though_padding_is_not_looked_at(tmp_path):
    found = attributor(tmp_path, sentence_classifier())
    found.load_checkpoint(states()[0], 0)
    for rows, batch in batches(ORDERS[0]):
        found.featurize(batch, inds=torch.tensor(rows))
    found.load_checkpoint(states()[1], 1)
    rows, batch = next(batches(ORDERS[0]))
    batch["input_ids"][1, 0] += 1
    with pytest.raises(DataError, match="example 1 is not the one that had this number before"):
        found.featurize(batch, inds=torch.tensor(rows))


def test_a_batch_that_is_cut_to_fewer_tokens_is_another(tmp_path):
    found = attributor(tmp_path, sentence_classifier())
    found.load_checkpoint(states()[0], 0)
    for rows, batch in batches(ORDERS[0]):
        found.featurize(batch, inds=torch.tensor(rows))
    found.load_checkpoint(states()[1], 1)
    rows, batch = next(batches(ORDERS[0]))
    cut = {name: value if name == "labels" else value[:, :3] for name, value in batch.items()}
    with pytest.raises(DataError, match="example 1 is not the one that had this number before"):
        found.featurize(cut, inds=torch.tensor(rows))


def test_explicit_gradients_of_a_model_that_looks_at_its_mask_say_which_sketch_to_take(tmp_path):
    found = attributor(tmp_path, sentence_classifier(), projector="sjlt")
    found.load_checkpoint(states()[0], 0)
    _, batch = next(batches(ORDERS[0]))
    assert not batch["attention_mask"].all()
    with pytest.raises(SketchError, match=r"under torch\.func\.vmap.*sketch=tensor_sketch.*\(batch, 1, 1, length\)"):
        found.featurize(batch, inds=torch.tensor(ORDERS[0][:3]))


def test_sentences_are_of_different_lengths():
    lengths = {len(sentence["tokens"]) for sentence in sentences()}
    assert len(lengths) > 2
    assert pad_sequence([sentence["tokens"] for sentence in sentences()], batch_first=True).shape == (7, max(lengths))
