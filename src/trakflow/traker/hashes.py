"""Hashes of examples, by which the same example is known again in another batch, for another model, in another run."""

import math
from collections.abc import Mapping

import numpy as np
import torch
import xxhash
from jaxtyping import Bool, UInt8
from torch import Tensor

HASH_BYTES = 16
# The end of the name of a mask (batch x length) that says which positions of an example are no padding.
MASK = "attention_mask"


def row_hashes(batch: Mapping[str, Tensor]) -> UInt8[np.ndarray, "size 2 16"]:
    """Return two hashes of each example, to know it again.

    Padding is no part of an example, as far as a mask says what is padding: a sequence padded to another length, on
    either side, has the same hashes.

    Returns:
        The hash of what does not change under augmentation: the integer tensors (labels, tokens, but not images of
        bytes), or everything where there are none; and that of everything.
    """
    arrays = {name: _bytes(value) for name, value in batch.items()}
    masks = {name: _mask_of(name, batch) for name in batch}
    fixed = [name for name, value in batch.items() if not value.is_floating_point() and value.dtype != torch.uint8]
    size = len(next(iter(arrays.values())))
    hashes = np.empty((size, 2, HASH_BYTES), np.uint8)
    for row in range(size):
        for place, names in enumerate((fixed or list(arrays), list(arrays))):
            digest = xxhash.xxh3_128()
            for name in names:
                digest.update(name.encode())
                digest.update(_unpadded(arrays[name][row], masks[name], row, name.endswith(MASK)))
            hashes[row, place] = np.frombuffer(digest.digest(), np.uint8)
    return hashes


def _bytes(value: Tensor) -> UInt8[np.ndarray, "size positions bytes"]:
    """The memory of each example, by position where it has several."""
    value = value.detach().cpu()
    positions = value.shape[1] if value.ndim > 1 else 1
    flat = value.reshape(len(value), positions, math.prod(value.shape[2:])).contiguous()
    return flat.view(torch.uint8).numpy() if flat.dtype != torch.bool else flat.to(torch.uint8).numpy()


def _mask_of(name: str, batch: Mapping[str, Tensor]) -> Bool[np.ndarray, "size length"] | None:
    """Which positions of a tensor are no padding: by the mask whose name begins most like its own (`decoder_...`)."""
    value = batch[name]
    # What is floating is along its second dimension an image's channels, or the embeddings of tokens.
    if value.ndim < 2 or (value.is_floating_point() and not name.endswith("inputs_embeds")):
        return None
    beginnings = [other.removesuffix(MASK) for other in batch if other.endswith(MASK) and batch[other].ndim == 2]
    fitting = [beginning for beginning in beginnings if name.startswith(beginning)]
    if not fitting:
        return None
    mask = batch[max(fitting, key=len) + MASK]
    return mask.detach().cpu().numpy() != 0 if mask.shape == value.shape[:2] else None


def _unpadded(
    memory: UInt8[np.ndarray, "positions bytes"],
    mask: Bool[np.ndarray, "size length"] | None,
    row: int,
    is_mask: bool,
) -> bytes:
    if mask is None or not mask[row].any():
        return memory.tobytes()
    own = mask[row]
    if is_mask:
        # From the first real position to the last: what is masked between them is a part of the example.
        real = np.flatnonzero(own)
        return memory[real[0] : real[-1] + 1].tobytes()
    return memory[own].tobytes()
