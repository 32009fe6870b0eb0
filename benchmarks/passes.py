"""How fast a device passes forward and backward through the models of docs/scale.md, and what a sketch takes in passes.

The models have random weights and the size and type of number of those experiments; inputs are random. Writes
`results/benchmarks/passes.csv`: floating-point operations a second of `output(model(batch)).sum().backward()`, counted
as by `scale.py`, and the seconds of `tensor_sketch` in units of that, timed in turn.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from featurize import forward_backward
from measure import alternate, machine, spread, versions
from scale import GPU_PEAK, SCALES, Scale
from trakflow.devices import usable_device
from trakflow.sketches.base import Sketch
from trakflow.sketches.build import build_sketch
from trakflow.stages.common import make_task, model_factory
from trakflow.store.files import atomic_path

# Examples at a time, largest first: what an H100 holds, and fewer to see whether it matters.
BATCHES = {"CIFAR-10": (1024, 256), "ImageNet": (256, 64), "language model": (8, 2)}


def batch_of(scale: Scale, size: int, device: str) -> dict[str, Tensor]:
    """Return random examples of an experiment's shape."""
    settings, random = scale.config.model, torch.Generator().manual_seed(0)
    if "vocabulary" in settings:
        shape = (size, settings["length"])
        return {"input_ids": torch.randint(settings["vocabulary"], shape, generator=random).to(device)}
    side = scale.config.data.train.get("side", 32)
    return {
        "inputs": torch.randn(size, 3, side, side, generator=random).to(device),
        "labels": torch.randint(int(scale.config.data.num_classes or 2), (size,), generator=random).to(device),
    }


def features(sketch: Sketch, batch: dict[str, Tensor]) -> Tensor:
    """Sketch a batch."""
    return sketch(batch).features


def measure(scale: Scale, device: str, repeats: int) -> list[dict[str, object]]:
    """Return a row of the table for each batch size."""
    torch.manual_seed(0)
    model = model_factory(scale.config)().to(device, getattr(torch, scale.gpu or "float32")).eval()
    task = make_task(scale.config)
    sketch = build_sketch(scale.config.sketch, model, task, 0, 0, device)
    rows = []
    for size in BATCHES[scale.name]:
        batch = batch_of(scale, size, device)
        calls = partial(features, sketch, batch), forward_backward(model, task, batch)
        found = alternate(*calls, device, repeats, 60.0)
        seconds = statistics.median(found.floor_seconds)
        rate = 3 * scale.model.forward * size / seconds
        rows.append(
            {
                "experiment": scale.name,
                "parameters": scale.model.parameters,
                "type": scale.gpu,
                "k": sketch.k,
                "batch": size,
                "examples_per_second": size / statistics.median(found.seconds),
                "forward_backward_seconds": seconds,
                "operations_per_second": rate,
                "part_of_peak": rate / GPU_PEAK[scale.gpu] if scale.gpu and device != "cpu" else None,
                "ratio_to_forward_backward": found.ratio,
                "spread": spread(found.ratios),
                "peak_mib": found.peak_mib,
                "forward_backward_peak_mib": found.floor_peak_mib,
                "repeats": len(found.seconds),
                "device": device,
                "machine": machine(device),
                "versions": versions("trakflow", "torch"),
            }
        )
        print({name: value for name, value in rows[-1].items() if name not in ("machine", "versions")}, flush=True)
    return rows


def main() -> None:
    """Measure the experiments that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", default="results/benchmarks/passes.csv")
    options = parser.parse_args()
    usable_device(options.device)
    rows = []
    for scale in SCALES:
        if scale.name in options.experiments:
            rows += measure(scale, options.device, options.repeats)
    with atomic_path(Path(options.out)) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
