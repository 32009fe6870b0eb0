"""Does the tensor sketch take the cheaper of its two routes? Both are timed in turn for layers of many shapes.

Writes `results/benchmarks/tensor_sketch_routes.csv`: seconds of either route, what the cost model chose, and how much
slower that is than the better one.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from measure import alternate, machine, spread, versions
from trakflow.sketches.contributions import Kept, Outer
from trakflow.sketches.routes import ON_A_CPU, ON_A_GPU, Route, cheaper_route
from trakflow.sketches.tensor_sketch import ParameterHash, TensorSketchAccumulator
from trakflow.store.files import atomic_path

# Rows and columns of a layer's gradient, and positions an example (None: a layer without).
LAYERS = [
    (10, 128, None),
    (128, 128, None),
    (128, 784, None),
    (1000, 2048, None),
    (128, 128, 64),
    (384, 384, 64),
    (384, 1536, 64),
    (384, 1536, 16),
    (384, 1536, 256),
    (768, 3072, 64),
    (5000, 384, 64),
]
SIZES = [512, 2048, 8192]


def add(route: Route, k: int, own: ParameterHash, outer: Outer, gradient: torch.Tensor) -> torch.Tensor:
    """Sketch one layer's gradients by one route."""
    accumulator = TensorSketchAccumulator({"weight": own}, len(gradient), k, torch.float32, gradient.device, route)
    accumulator.add(outer, gradient)
    return accumulator.features()


def compare(layer: tuple[int, int, int | None], k: int, batch: int, device: str, repeats: int) -> dict[str, object]:
    """Time both routes for a layer."""
    rows, columns, positions = layer
    torch.manual_seed(0)
    inputs = torch.randn(batch, positions or 1, columns).to(device)
    # Half the units are off, as behind a ReLU.
    gradient = torch.randn(batch, positions or 1, rows).relu().to(device)
    own = ParameterHash.draw("weight", torch.Size([rows, columns]), k, 0, inputs.device)
    outer = Outer("weight", Kept(inputs, "layer"), positions is not None)
    calls = {route: partial(add, route, k, own, outer, gradient) for route in ("fourier", "scatter")}
    found = alternate(calls["fourier"], calls["scatter"], device, repeats, 20.0)
    seconds = {"fourier": statistics.median(found.seconds), "scatter": statistics.median(found.floor_seconds)}
    costs = ON_A_CPU if device == "cpu" else ON_A_GPU
    chosen = cheaper_route(rows, columns, k, positions is not None, costs)
    return {
        "rows": rows,
        "columns": columns,
        "positions": positions,
        "k": k,
        "batch": batch,
        "fourier_seconds": seconds["fourier"],
        "scatter_seconds": seconds["scatter"],
        "ratio_spread": spread(found.ratios),
        "chosen": chosen,
        "slower_than_best": seconds[chosen] / min(seconds.values()),
        "repeats": len(found.seconds),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Time every layer at every k."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="results/benchmarks/tensor_sketch_routes.csv")
    options = parser.parse_args()
    facts = {"machine": machine(options.device), "versions": versions("trakflow", "torch", "numba")}
    found = []
    for layer in LAYERS:
        for k in SIZES:
            found.append({**compare(layer, k, options.batch, options.device, options.repeats), **facts})
            print({key: value for key, value in found[-1].items() if key not in facts}, flush=True)
    table = pd.DataFrame(found)
    with atomic_path(Path(options.out)) as temporary:
        table.to_csv(temporary, index=False)
    print(
        f"chosen route: {table['slower_than_best'].median():.2f} x the better one in the median, at most "
        f"{table['slower_than_best'].max():.2f} x"
    )


if __name__ == "__main__":
    main()
