"""Random subsets of the training set, for checkpoints and for the evaluation (paper, section 2.3)."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from trakflow.seeds import generator

# Below this many possible subsets two independent draws may well be equal, so repeats are drawn again.
COLLISIONS_LIKELY = 1 << 40


def random_subset(size: int, fraction: float, seed: int, role: str, index: int) -> Bool[np.ndarray, " n"]:
    """Return the mask of random subset number `index`.

    Subset i does not depend on how many there are, and no two of one role are equal.

    Args:
        size: Number of training examples n.
        fraction: Part of them in the subset; floor(fraction * n) are chosen.
        seed: The experiment's seed.
        role: What the subset is for; roles are independent of each other.
        index: Which subset; there must be more than that many.

    Returns:
        A boolean mask (n) with floor(fraction * n) True.
    """
    return random_subsets(size, fraction, seed, role, [index])[0]


def random_subsets(
    size: int, fraction: float, seed: int, role: str, indices: Sequence[int]
) -> Bool[np.ndarray, "subsets n"]:
    """Return the masks of several subsets, one a row; arguments as for `random_subset`."""
    chosen = math.floor(fraction * size)
    if min(chosen, size - chosen) > 64 or math.comb(size, chosen) >= COLLISIONS_LIKELY:
        return np.stack([_draw(size, chosen, seed, role, index, 0) for index in indices])
    distinct = _distinct(size, chosen, seed, role, max(indices) + 1)
    return np.stack([distinct[index] for index in indices])


def _distinct(size: int, chosen: int, seed: int, role: str, count: int) -> list[Bool[np.ndarray, " n"]]:
    """Draw subsets 0 to count - 1, each again until it differs from all before it."""
    masks: list[np.ndarray] = []
    seen: set[bytes] = set()
    for number in range(count):
        attempt = 0
        mask = _draw(size, chosen, seed, role, number, attempt)
        while mask.tobytes() in seen:
            attempt += 1
            mask = _draw(size, chosen, seed, role, number, attempt)
        seen.add(mask.tobytes())
        masks.append(mask)
    return masks


def _draw(size: int, chosen: int, seed: int, role: str, index: int, attempt: int) -> Bool[np.ndarray, " n"]:
    mask = np.zeros(size, dtype=bool)
    mask[generator(seed, "subset", role, index, attempt).permutation(size)[:chosen]] = True
    return mask
