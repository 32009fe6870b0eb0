"""A small classification problem, TRAKers on it, and its scores by the formula in float64."""

from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from trakflow import TRAKer
from trakflow.models.mlp import MLP
from trakflow.tasks.classification import Classification

N, M, CLASSES, BATCH = 40, 6, 3, 8


def model():
    return MLP(5, [4], CLASSES)


def checkpoints(count=2):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(MLP(5, [4], CLASSES).state_dict())
    return found


def data(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 5, generator=generator)
    return inputs, torch.randint(CLASSES, (size,), generator=generator)


TRAIN, TARGETS = data(N, 1), data(M, 2)


def batches(arrays=TRAIN, size=BATCH):
    return [tuple(array[start : start + size] for array in arrays) for start in range(0, len(arrays[0]), size)]


def traker(folder: Path, cls=TRAKer, **arguments):
    settings = {
        "model": model(),
        "task": "image_classification",
        "train_set_size": N,
        "save_dir": str(folder),
        "device": "cpu",
        "logging_level": 40,
        "use_half_precision": False,
    }
    return cls(**{**settings, **arguments})


def featurize(attributor, states=None, arrays=TRAIN):
    for model_id, state in enumerate(states or checkpoints()):
        attributor.load_checkpoint(state, model_id=model_id)
        for batch in batches(arrays):
            attributor.featurize(batch=batch, num_samples=len(batch[0]))
    return attributor


def score(attributor, states=None, arrays=TARGETS, name="test"):
    for model_id, state in enumerate(states or checkpoints()):
        attributor.start_scoring_checkpoint(
            exp_name=name, checkpoint=state, model_id=model_id, num_targets=len(arrays[0])
        )
        for batch in batches(arrays):
            attributor.score(batch=batch, num_samples=len(batch[0]))
    return attributor.finalize_scores(exp_name=name)


def scores(folder, states=None, **arguments):
    attributor = featurize(traker(folder, **arguments), states)
    attributor.finalize_features()
    return np.array(score(attributor, states))


def gradients(state, arrays):
    """Gradients (examples x p), f, p of the label: in float64, one parameter after another."""
    network, task = model().double(), Classification()
    network.load_state_dict(state)
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    inputs, labels = arrays[0].double(), arrays[1]

    def output(values, one, label):
        raw = functional_call(network, values, (one[None],))
        return task.output(raw, {"labels": label[None]})[0]

    found = vmap(grad(output), (None, 0, 0))(parameters, inputs, labels)
    f = vmap(output, (None, 0, 0))(parameters, inputs, labels)
    return torch.cat([value.flatten(1) for value in found.values()], dim=1).detach(), f.detach()


def mean_diagonal(gram):
    """The unit of a relative ridge."""
    return float(gram.diagonal().sum()) / min(N, len(gram))


def dense_scores(states, ridge, weighted):
    """mean(Q) * mean(Phi (Phi^T W Phi + ridge I)^-1 phi(z)); `ridge` maps a Gram matrix to a number."""
    weights, products = [], []
    for state in states:
        phi, f = gradients(state, TRAIN)
        target, _ = gradients(state, TARGETS)
        p = torch.sigmoid(f)
        rows = phi * (p * (1 - p)).sqrt()[:, None] if weighted else phi
        gram = rows.T @ rows
        system = gram + ridge(gram) * torch.eye(len(gram), dtype=torch.float64)
        products.append(phi @ torch.linalg.solve(system, target.T))
        weights.append(1 - p)
    return (torch.stack(weights).mean(0)[:, None] * torch.stack(products).mean(0)).numpy()
