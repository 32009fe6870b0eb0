"""TRAK's formula in float64 by the random matrices of traker and of dattri."""

import numpy as np
import torch

from trakflow.seeds import derive_seed

# What each calls its ridge.
RIDGES = {"traker": "lambda_reg", "dattri": "regularization"}


def matrix(name, checkpoint, entries, k, seed=0):
    """The matrix by which a library projects gradients with so many entries (entries x k)."""
    seed = derive_seed(seed, name) % 2**31
    if name == "traker":
        from trak.projectors import BasicProjector, ProjectionType

        projector = BasicProjector(entries, k, seed, ProjectionType.normal, "cpu")
        return projector.project(torch.eye(entries), model_id=checkpoint).double().numpy()
    from dattri.func.projection import random_project

    project = random_project(torch.eye(entries), entries, k, 32, seed, "normal")
    return project(torch.eye(entries), ensemble_id=checkpoint).double().numpy()


def formula(name, parts, k, ridge=0.0):
    """Mean of Phi (Phi^T Phi + ridge)^-1 phi(z), times the mean of Q; traker divides inverses by their mean entry.

    Args:
        name: Of the library.
        parts: Of each checkpoint: gradients of f of the training examples and of the targets, and Q.
        k: Number of features.
        ridge: On the diagonal.
    """
    total, weights = 0.0, 0.0
    for checkpoint, (train, targets, loss_gradients) in enumerate(parts):
        entries = train.shape[1]
        project = matrix(name, checkpoint, entries, k) / np.sqrt(entries)
        features = train @ project
        inverse = np.linalg.inv(features.T @ features + ridge * np.eye(k))
        if name == "traker":
            inverse /= np.abs(inverse).mean()
        total = total + features @ inverse @ (targets @ project).T
        weights = weights + loss_gradients
    return total * weights[:, None] / len(parts) ** 2
