"""Seeds by hashing, never by arithmetic.

Every random choice is named by a tuple of parts, for example ``(seed, "sketch", checkpoint, layer)``. Distinct tuples
give independent streams, and inserting a new use never shifts an old one.
"""

import hashlib
import json

import numpy as np

Part = int | str


def derive_seed(*parts: Part) -> int:
    """Hash the parts to a seed.

    Args:
        parts: Integers and strings naming the use; ``1`` and ``"1"`` are different parts.

    Returns:
        An integer in [0, 2^63), accepted by torch and numpy alike.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: Part) -> np.random.Generator:
    """Return a numpy generator (Philox) for the parts."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))
