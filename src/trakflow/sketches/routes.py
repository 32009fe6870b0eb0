"""Which of its two routes the tensor sketch takes for a layer: a cost model in nanoseconds an example.

The constants were measured on one thread of a CPU and on a GPU (benchmarks/tensor_sketch_routes.py compares the choice
with the measured best); only their ratios matter. The route is a function of the layer, of k and of the kind of device,
never of the batch: a layer with positions counts as if it had `POSITIONS`.
"""

import math
from dataclasses import dataclass
from typing import Literal

Route = Literal["fourier", "scatter"]

POSITIONS = 64
# Of a GPU's kernel: features that look for the entries of a row together.
BLOCK = 256


@dataclass(frozen=True)
class Costs:
    """Nanoseconds.

    Attributes:
        transform: A real transform, by k log2(k).
        sketch_rows: A count sketch, by entry that goes to a random feature.
        sketch_columns: And by one that goes to the next.
        clear: Zeroing a count sketch before, by feature.
        combine: A product of two transforms and its sum, by coefficient.
        product: By entry of a gradient of rank one.
        scatter: By entry of a gradient that is written out.
        multiply: By multiply-add of such a gradient.
        look: Of scattering, by feature that looks for an entry of a row: one for each column, and a block's others.
        calls: Of an example's share of starting what the Fourier route calls and the other does not.
    """

    transform: float
    sketch_rows: float
    sketch_columns: float
    clear: float
    combine: float
    product: float
    scatter: float
    multiply: float
    look: float
    calls: float


ON_A_CPU = Costs(
    transform=0.09,
    sketch_rows=1.1,
    sketch_columns=0.5,
    clear=0.15,
    combine=0.7,
    product=0.07,
    scatter=0.3,
    multiply=0.022,
    look=0.0,
    calls=0.0,
)
ON_A_GPU = Costs(
    transform=2.5e-4,
    sketch_rows=1e-2,
    sketch_columns=1e-3,
    clear=1e-3,
    combine=8e-3,
    product=0.0,
    scatter=2e-3,
    multiply=5e-5,
    look=9e-4,
    calls=2100.0,
)


def fourier_cost(rows: int, columns: int, k: int, positions: int, costs: Costs) -> float:
    """Nanoseconds an example; the inverse transform is shared by all layers and left out."""
    transforms = 2 * costs.transform * k * math.log2(k + 1)
    sketches = costs.sketch_rows * rows + costs.sketch_columns * columns + costs.clear * 2 * k
    return positions * (transforms + sketches + costs.combine * k / 2) + costs.calls


def scatter_cost(rows: int, columns: int, positions: int, costs: Costs) -> float:
    """Nanoseconds an example."""
    entry = costs.product if positions == 1 else costs.scatter + costs.multiply * positions
    return entry * rows * columns + costs.look * rows * (columns + BLOCK)


def cheaper_route(rows: int, columns: int, k: int, positional: bool, costs: Costs) -> Route:
    """Choose for a layer whose gradient is rows x columns."""
    positions = POSITIONS if positional else 1
    cheaper = fourier_cost(rows, columns, k, positions, costs) < scatter_cost(rows, columns, positions, costs)
    return "fourier" if cheaper else "scatter"
