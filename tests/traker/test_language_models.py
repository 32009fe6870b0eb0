"""Language models as Hugging Face's users have them: dict batches, padded to the longest of each batch."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from trakflow import TRAKer
from trakflow.tasks.language_modeling import LogOdds, LogProbability

N, M, VOCABULARY = 12, 3, 11


def gpt2(seed=0):
    torch.manual_seed(seed)
    settings = {"n_positions": 10, "n_embd": 8, "n_layer": 2, "n_head": 2, "attn_implementation": "eager"}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, **settings)).eval()


def sequences(count, seed):
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 11, (count,), generator=random).tolist()
    return [torch.randint(0, VOCABULARY, (length,), generator=random) for length in lengths]


def collated(rows, only=None):
    """A batch with right padding; `only` labels one token of each sequence."""
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    labels = ids.masked_fill(mask == 0, -100)
    if only is not None:
        labels = labels.masked_fill(torch.arange(ids.shape[1]) != only, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


TRAIN, TARGETS = sequences(N, 1), sequences(M, 2)


def scores(folder, task, only=None, size=4, **arguments):
    model = gpt2()
    state = model.state_dict()
    traker = TRAKer(
        model,
        task,
        N,
        folder,
        device="cpu",
        use_half_precision=False,
        logging_level=40,
        relative_ridge=1.0,
        **arguments,
    )
    traker.load_checkpoint(state, 0)
    for start in range(0, N, size):
        rows = TRAIN[start : start + size]
        traker.featurize(collated(rows), num_samples=len(rows))
    traker.finalize_features()
    traker.start_scoring_checkpoint("passages", state, 0, M)
    traker.score(collated(TARGETS, only), num_samples=M)
    return np.array(traker.finalize_scores("passages"))


def gradients(task, rows, only=None):
    """By plain backpropagation of one unpadded sequence after another, in float64: gradients, Q, W."""
    model = gpt2().double()
    found = []
    for row in rows:
        batch = collated([row], only)
        logits = task.forward(model, batch)
        output = task.output(logits, batch)
        gradient = torch.autograd.grad(output.sum(), list(model.parameters()))
        curvature = task.curvature(logits, batch)
        weight = torch.ones(1) if curvature is None else curvature
        found.append([torch.cat([part.flatten() for part in gradient]), task.loss_gradient(logits, batch), weight])
    phi, q, w = (torch.stack(list(column)).double().detach().numpy() for column in zip(*found, strict=True))
    return phi, q[:, 0], w[:, 0]


@pytest.mark.parametrize("task", [LogOdds(), LogProbability()])
@pytest.mark.parametrize("only", [None, 2])
def test_scores_of_padded_dict_batches_are_those_of_single_sequences_by_the_formula(tmp_path, task, only):
    phi, q, w = gradients(task, TRAIN)
    targets = gradients(task, TARGETS, only)[0]
    rows = np.sqrt(w)[:, None] * phi
    gram = rows @ rows.T
    # (Phi^T W Phi + ridge I)^-1 by the smaller matrix, with Woodbury's identity.
    ridge = np.trace(gram) / N
    inverse = (targets.T - rows.T @ np.linalg.solve(gram + ridge * np.eye(N), rows @ targets.T)) / ridge
    expected = q[:, None] * (phi @ inverse)
    found = scores(tmp_path, task, only, projector="identity")
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("projector", ["tensor_sketch", "factorized", "sjlt", "rademacher"])
def test_how_sequences_are_padded_and_put_into_batches_changes_no_score(tmp_path, projector):
    found = [
        scores(tmp_path / str(size), "language_modeling", size=size, projector=projector, proj_dim=32)
        for size in (1, 5, N)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-3, atol=1e-4 * np.abs(found[0]).max())
