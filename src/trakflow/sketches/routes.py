"""Which of its two routes the tensor sketch takes for a layer: a cost model in nanoseconds an example.

The constants were measured on one thread of a CPU (benchmarks/tensor_sketch_routes.py compares the choice with the
measured best); only their ratios matter. The route is a function of the layer and of k, never of the batch: a layer
with positions counts as if it had `POSITIONS`.
"""

import math
from typing import Literal

Route = Literal["fourier", "scatter"]

POSITIONS = 64
TRANSFORM = 0.09  # a real transform, by k log2(k)
SKETCH_ROWS = 1.1  # a count sketch, by entry that goes to a random feature
SKETCH_COLUMNS = 0.5  # and by one that goes to the next
CLEAR = 0.15  # zeroing a count sketch before, by feature
COMBINE = 0.7  # a product of two transforms and its sum, by coefficient
PRODUCT = 0.07  # by entry of a gradient of rank one
SCATTER = 0.3  # by entry of a gradient that is written out
MULTIPLY = 0.022  # by multiply-add of such a gradient


def fourier_cost(rows: int, columns: int, k: int, positions: int) -> float:
    """Nanoseconds an example; the inverse transform is shared by all layers and left out."""
    transforms = 2 * TRANSFORM * k * math.log2(k + 1)
    sketches = SKETCH_ROWS * rows + SKETCH_COLUMNS * columns + CLEAR * 2 * k
    return positions * (transforms + sketches + COMBINE * k / 2)


def scatter_cost(rows: int, columns: int, k: int, positions: int) -> float:
    """Nanoseconds an example."""
    entry = PRODUCT if positions == 1 else SCATTER + MULTIPLY * positions
    return entry * rows * columns


def cheaper_route(rows: int, columns: int, k: int, positional: bool) -> Route:
    """Choose for a layer whose gradient is rows x columns."""
    positions = POSITIONS if positional else 1
    cheaper = fourier_cost(rows, columns, k, positions) < scatter_cost(rows, columns, k, positions)
    return "fourier" if cheaper else "scatter"
