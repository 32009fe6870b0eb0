"""The scores without one of their parts (paper, section 5 and its ablations), dense and in float64.

Notation: A_m = Phi_m (Phi_m^T W_m Phi_m + ridge I)^-1 T_m^T for checkpoint m, so that the scores are
mean(Q_m) * mean(A_m).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class DenseParts:
    """One checkpoint's parts.

    Attributes:
        features: Phi.
        loss_gradients: Q.
        curvatures: W.
        target_features: T.
        ridge: Absolute.
    """

    features: Float64[Tensor, "n k"]
    loss_gradients: Float64[Tensor, " n"]
    curvatures: Float64[Tensor, " n"]
    target_features: Float64[Tensor, "m k"]
    ridge: float


def kernel_products(parts: DenseParts) -> Float64[Tensor, "n m"]:
    """Return A_m; through the smaller of its two sides."""
    phi, weighted = parts.features, parts.features * parts.curvatures[:, None]
    n, k = phi.shape
    if k <= n:
        gram = phi.T @ weighted
        gram.diagonal().add_(parts.ridge)
        return phi @ torch.linalg.solve(gram, parts.target_features.T)
    return _by_examples(phi @ phi.T, parts.curvatures, phi @ parts.target_features.T, parts.ridge)


def _by_examples(
    products: Float64[Tensor, "n n"], curvatures: Float64[Tensor, " n"], right: Float64[Tensor, "n m"], ridge: float
) -> Float64[Tensor, "n m"]:
    # Phi (Phi^T W Phi + r I)^-1 = (Phi Phi^T W + r I)^-1 Phi
    system = products * curvatures[None, :]
    system.diagonal().add_(ridge)
    return torch.linalg.solve(system, right)


def ablated_scores(checkpoints: Sequence[DenseParts]) -> dict[str, Float[np.ndarray, "n m"]]:
    """Return the scores, and those without each of their parts, by name.

    `kernels averaged` solves once, by the mean of Phi_m Phi_m^T, of the target's products and of W_m, at the mean
    ridge, where the method averages the solutions.
    """
    count = len(checkpoints)
    gradients = torch.stack([parts.loss_gradients for parts in checkpoints]).mean(dim=0)
    curvatures = torch.stack([parts.curvatures for parts in checkpoints]).mean(dim=0)
    ridge = sum(parts.ridge for parts in checkpoints) / count
    solved = scored = right = products = torch.zeros(())
    for parts in checkpoints:
        own = kernel_products(parts)
        solved = solved + own / count
        scored = scored + parts.loss_gradients[:, None] * own / count
        right = right + parts.features @ parts.target_features.T / count
        products = products + parts.features @ parts.features.T / count
    found = {
        "TRAK": gradients[:, None] * solved,
        "without Q": solved,
        "without the kernel": gradients[:, None] * right,
        "scores averaged, not Q and kernel apart": scored,
        "kernels averaged before they are solved": gradients[:, None]
        * _by_examples(products, curvatures, right, ridge),
    }
    return {name: scores.numpy() for name, scores in found.items()}


def soft_threshold(scores: Float[np.ndarray, "n m"], part: float) -> Float[np.ndarray, "n m"]:
    """Shrink scores towards zero so that a part of those of each target become zero (paper, equation 16)."""
    bound = np.quantile(np.abs(scores), part, axis=0, keepdims=True)
    return np.sign(scores) * np.maximum(np.abs(scores) - bound, 0.0)
