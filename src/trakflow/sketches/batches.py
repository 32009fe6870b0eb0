"""A sketch of many examples, a batch at a time."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trakflow.progress import progress
from trakflow.sketches.base import Sketch, SketchedBatch


def sketch_all(
    sketch: Sketch, arrays: Mapping[str, Tensor], batch_size: int, first: int, description: str
) -> SketchedBatch:
    """Sketch all rows, a batch at a time, onto the CPU.

    Args:
        sketch: The sketch.
        arrays: The examples' tensors.
        batch_size: Examples at a time.
        first: Index of the first example, for messages.
        description: For the progress bar.

    Raises:
        NumericalError: A feature, output or weight is NaN or Inf; names the examples.
    """
    # Filled batch by batch, so that a shard's features are held once.
    features = torch.empty(len(next(iter(arrays.values()))), sketch.k)
    rest = []
    for start, found in sketched_batches(sketch, arrays, batch_size, first, description):
        features[start : start + len(found.features)] = found.features
        rest.append((found.outputs.cpu(), found.loss_gradients.cpu(), found.curvatures))
    outputs, loss_gradients, curvatures = zip(*rest, strict=True)
    return SketchedBatch(
        features,
        torch.cat(outputs),
        torch.cat(loss_gradients),
        None if curvatures[0] is None else torch.cat([curvature.cpu() for curvature in curvatures]),
    )


def sketched_batches(
    sketch: Sketch, arrays: Mapping[str, Tensor], batch_size: int, first: int, description: str
) -> Iterator[tuple[int, SketchedBatch]]:
    """Yield the position of each batch's first row, and what its sketch is; arguments and errors as `sketch_all`."""
    for start in progress(range(0, len(next(iter(arrays.values()))), batch_size), description):
        found = sketch({name: array[start : start + batch_size] for name, array in arrays.items()})
        found.require_finite(range(first + start, first + start + len(found.features)))
        yield start, found
