"""Which of its two routes the tensor sketch takes for a layer: a cost model in nanoseconds an example.

The constants were measured on two threads of a CPU (benchmarks/tensor_sketch_routes.py compares the choice with the
measured best); only their ratios matter. The route is a function of the layer and of k, never of the batch: a layer
with positions counts as if it had `POSITIONS`.
"""

import math
from typing import Literal

Route = Literal["fourier", "scatter"]

POSITIONS = 64
TRANSFORM = 0.045  # a real transform, by k log2(k)
SKETCH = 0.3  # a count sketch, by entry
CLEAR = 0.075  # zeroing a count sketch before, by feature
COMBINE = 0.7  # a product of two transforms and its sum, by coefficient
SCATTER = 0.5  # by entry of the gradient
MULTIPLY = 0.02  # by multiply-add of a gradient


def fourier_cost(rows: int, columns: int, k: int, positions: int) -> float:
    """Nanoseconds an example; the inverse transform is shared by all layers and left out."""
    transforms = 2 * TRANSFORM * k * math.log2(k + 1)
    return positions * (transforms + SKETCH * (rows + columns) + CLEAR * 2 * k + COMBINE * k / 2)


def scatter_cost(rows: int, columns: int, k: int, positions: int) -> float:
    """Nanoseconds an example."""
    multiplied = MULTIPLY * rows * columns * positions if positions > 1 else 0.0
    return multiplied + SCATTER * rows * columns


def cheaper_route(rows: int, columns: int, k: int, positional: bool) -> Route:
    """Choose for a layer whose gradient is rows x columns."""
    positions = POSITIONS if positional else 1
    cheaper = fourier_cost(rows, columns, k, positions) < scatter_cost(rows, columns, k, positions)
    return "fourier" if cheaper else "scatter"
