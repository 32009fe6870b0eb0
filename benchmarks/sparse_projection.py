"""How close sjlt comes to the speed of memory: torch and its own kernel against reading the gradients once.

The kernel is the compiled one on a CPU, and that of the package sjlt on a GPU where it is installed.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numba
import numpy as np
import pandas as pd
import torch

from measure import machine, timed
from trakflow.sketches.sjlt import SparseProjection, package_is_built
from trakflow.store.files import atomic_path

# Examples, gradient entries of each, k, nonzeros: from a layer of a small network to a network of ten million.
CASES = [
    (64, 4_096, 512, 1),
    (64, 100_000, 512, 1),
    (64, 100_000, 4_096, 4),
    (64, 1_000_000, 2_048, 1),
    (64, 1_000_000, 65_536, 1),
    (16, 10_000_000, 4_096, 1),
]
# Calls in a row, which a GPU takes one after another without waiting for the next.
TIMES_ON_A_GPU = 10
# Seconds that a process waits at its first use of the kernel, once it has been compiled and stored by another.
FIRST_USE = """
import time, torch
from trakflow.sketches.sjlt import SparseProjection
projection = SparseProjection({"a": 1000}, 64, 0)
features, gradients = torch.zeros(8, 64), torch.ones(8, 1000)
began = time.perf_counter()
projection._add_compiled(features, "a", gradients)
print(time.perf_counter() - began)
"""


def compare(batch: int, size: int, k: int, nonzeros: int, device: str, repeats: int) -> list[dict]:
    """Time all methods in turn, `repeats` times over, and take ratios within a turn."""
    gradients = torch.randn(batch, size, generator=torch.Generator().manual_seed(0)).to(device)
    copied, features = torch.empty_like(gradients), torch.zeros(batch, k, device=device)
    by_torch, by_other = (SparseProjection({"a": size}, k, 0, nonzeros, device) for _ in range(2))
    methods: dict[str, Callable[[], object]] = {
        "read (sum)": gradients.sum,
        "copy": partial(copied.copy_, gradients),
        "torch index_add_": partial(by_torch._add_by_torch, features, "a", gradients),
    }
    if device == "cpu":
        methods["compiled kernel"] = partial(by_other._add_compiled, features, "a", gradients)
    elif package_is_built():
        methods["package sjlt"] = partial(by_other._add_by_package, features, "a", gradients)
    for method in methods.values():
        method()
    times = 1 if device == "cpu" else TIMES_ON_A_GPU
    turns = [{name: timed(method, device, times) for name, method in methods.items()} for _ in range(repeats)]
    rows = []
    for name in methods:
        low, _, high = statistics.quantiles([turn[name] for turn in turns], n=4)
        rows.append(
            {
                "examples": batch,
                "entries": size,
                "k": k,
                "nonzeros": nonzeros,
                "threads": torch.get_num_threads(),
                "device": device,
                "method": name,
                "median_ms": 1e3 * statistics.median(turn[name] for turn in turns),
                "quartile_1_ms": 1e3 * low,
                "quartile_3_ms": 1e3 * high,
                "n": repeats,
                "ratio_to_read": statistics.median(turn[name] / turn["read (sum)"] for turn in turns),
                "ratio_to_copy": statistics.median(turn[name] / turn["copy"] for turn in turns),
            }
        )
    return rows


def first_use(repeats: int) -> dict:
    """Time the first use of the kernel in processes of its own."""
    command = [sys.executable, "-c", FIRST_USE]
    found = [
        1e3 * float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats + 1)
    ][1:]
    low, middle, high = statistics.quantiles(found, n=4)
    row = {"method": "first use of the kernel in a process", "n": repeats}
    return {**row, "median_ms": middle, "quartile_1_ms": low, "quartile_3_ms": high}


def main(arguments: argparse.Namespace) -> None:
    """Write and print the table."""
    load = os.getloadavg()[0]
    rows = []
    for threads in arguments.threads if arguments.device == "cpu" else [torch.get_num_threads()]:
        torch.set_num_threads(threads)
        for case in CASES:
            rows += compare(*case, arguments.device, arguments.repeats)
    table = pd.DataFrame([*rows, first_use(5)] if arguments.device == "cpu" else rows)
    print(table.round(2).to_string(index=False))
    table = table.assign(
        machine=machine(arguments.device),
        load_at_start=load,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        numba=numba.__version__,
    )
    with atomic_path(arguments.output) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", default="results/benchmarks/sparse_projection.csv")
    main(parser.parse_args())
