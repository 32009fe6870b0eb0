"""How fast each sketch featurizes, in units of a plain forward and backward pass, beside traker and dattri.

Every line of the table in `benchmarks/sketches.py` runs in a process of its own, one after the other; in it the sketch
and the plain passes are timed in turn on the same batch. Writes `results/benchmarks/featurize.csv`.
"""

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from measure import Alternated, alternate, available_gib, machine, memory_mib, spread, versions
from models import MODELS, make_batch, make_model, parameter_count
from peers import PEERS
from sketches import FEATURIZE, ONE_BATCH, K, Measured
from trakflow.allocator import keep_freed_memory
from trakflow.config.attribution import Sketch as SketchSettings
from trakflow.devices import usable_device
from trakflow.sketches import scatter, sjlt
from trakflow.sketches.build import build_sketch
from trakflow.store.files import atomic_path
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.classification import Classification

SEED = 0
SEED_OF_BATCH = 1
COLUMNS = [
    "model",
    "sketch",
    "k",
    "batch",
    "examples_per_second",
    "ratio_to_forward_backward",
    "spread",
    "peak_mib",
    "peak_ratio_to_forward_backward",
    "seconds",
    "forward_backward_seconds",
    "forward_backward_peak_mib",
    "k_actual",
    "parameters",
    "device",
    "threads",
    "repeats",
    "machine",
    "versions",
    "not_run",
]
WHOLE = ["k", "k_actual", "threads", "repeats"]
# Of the memory that is free at the start; the rest is for what the estimate leaves out, such as activations.
MEMORY_PART = 0.7
QUICK_REPEATS, QUICK_BUDGET = 3, 4.0

Row = dict[str, Any]


def forward_backward(model: nn.Module, task: Task, batch: Batch) -> Callable[[], None]:
    """Return the floor: one forward and backward pass of the summed outputs, for all parameters."""

    def call() -> None:
        task.output(task.forward(model, batch), batch).sum().backward()
        model.zero_grad(set_to_none=True)

    return call


@contextlib.contextmanager
def featurizer(
    line: Measured, model_name: str, model: nn.Module, batch: Batch, device: str
) -> Iterator[Callable[[], Tensor]]:
    """Yield a call that featurizes the batch and returns features (batch x k)."""
    if line.label in PEERS:
        with PEERS[line.label](model, Classification(), batch, K, device) as call:
            yield call
    else:
        settings = SketchSettings(**line.settings[model_name])
        sketch = build_sketch(settings, model, Classification(), SEED, 0, device)
        yield lambda: sketch(batch).features


def measure(line: Measured, row: Row, options: argparse.Namespace) -> Row:
    """Return the row with what was measured.

    Raises:
        RuntimeError: The features have a wrong shape or are not finite.
    """
    device, size = options.device, row["batch"]
    model = make_model(row["model"], SEED, device)
    batch = make_batch(row["model"], size, SEED_OF_BATCH, device)
    floor = forward_backward(model, Classification(), batch)
    with featurizer(line, row["model"], model, batch, device) as call:
        found = alternate(call, floor, device, options.repeats, options.budget)
        in_use = memory_mib(device)
    del call
    # What the sketch keeps between calls, such as a part of its matrix, is memory that featurizing takes too.
    found.peak_mib += max(0.0, in_use - memory_mib(device))
    features = found.result
    if len(features) != size or not torch.isfinite(features).all():
        raise RuntimeError(f"{line.label} made features of shape {tuple(features.shape)}, or not finite ones.")
    return {**row, **_summary(found, size), "k_actual": features.shape[1], "threads": torch.get_num_threads()}


def _summary(found: Alternated, size: int) -> Row:
    seconds = statistics.median(found.seconds)
    return {
        "examples_per_second": size / seconds,
        "ratio_to_forward_backward": found.ratio,
        "spread": spread(found.ratios),
        "peak_mib": found.peak_mib,
        "peak_ratio_to_forward_backward": found.peak_mib / found.floor_peak_mib if found.floor_peak_mib else math.nan,
        "seconds": seconds,
        "forward_backward_seconds": statistics.median(found.floor_seconds),
        "forward_backward_peak_mib": found.floor_peak_mib,
        "repeats": len(found.seconds),
    }


def planned(options: argparse.Namespace) -> list[tuple[Measured, str, list[Row]]]:
    """Return the lines to measure with their model and rows; a row that cannot run says why in `not_run`."""
    limit = options.memory_gib if options.memory_gib is not None else MEMORY_PART * available_gib(options.device)
    parts = []
    for name in options.models:
        parameters = parameter_count(make_model(name, SEED, "cpu"))
        for line in FEATURIZE:
            on_another_device = line.on_a_gpu and options.device == "cpu"
            if line.label not in options.sketches or name not in line.settings or on_another_device:
                continue
            batches = options.batches or ((ONE_BATCH,) if line.one_batch else MODELS[name].batches)
            rows = [
                {
                    "model": name,
                    "sketch": line.label,
                    "k": line.settings[name].get("k"),
                    "batch": size,
                    "parameters": parameters,
                    "device": options.device,
                    "not_run": why_not(line, name, size, parameters, limit, options.quick),
                }
                for size in batches
            ]
            parts.append((line, name, rows))
    return parts


def why_not(line: Measured, model: str, size: int, parameters: int, limit_gib: float, quick: bool) -> str | None:
    """Say why a row is not measured, or None."""
    if quick and (size != ONE_BATCH or (line.one_batch and model != "mlp")):
        return "left out by --quick"
    needed = (line.gradient_copies * size + line.matrix_columns) * parameters * 4 / 2**30
    if needed > limit_gib:
        return f"gradients and matrix need about {needed:.1f} GiB, and {limit_gib:.1f} GiB may be used (--memory-gib)"
    return None


def run_apart(line: Measured, rows: list[Row], options: argparse.Namespace) -> list[Row]:
    """Measure rows in a process of its own and return them; rows that it could not do say why."""
    todo = [row for row in rows if row["not_run"] is None]
    if not todo:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        job = {"line": line.label, "rows": todo, "out": str(file), "options": vars(options)}
        environment = dict(os.environ)
        if options.threads is not None:
            # Also for libraries that start threads of their own.
            environment |= {name: str(options.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        command = [sys.executable, __file__, "--job", json.dumps(job)]
        code = subprocess.run(command, env=environment, check=False).returncode
        done = [json.loads(text) for text in file.read_text().splitlines()] if file.is_file() else []
    what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    failed = [{**row, "not_run": f"its process ended with {what}"} for row in todo[len(done) :]]
    measured = iter([*done, *failed])
    return [row if row["not_run"] is not None else next(measured) for row in rows]


def run_job(text: str) -> None:
    """Measure the rows of a job, in this process, and append each to its file."""
    job = json.loads(text)
    options = argparse.Namespace(**job["options"])
    (line,) = (line for line in FEATURIZE if line.label == job["line"])
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    usable_device(options.device)  # everything in float32: torch's own choice for convolutions on a GPU is less
    # Both are torch's remarks on speed, which is what is measured.
    warnings.filterwarnings("ignore", "There is a performance drop")
    warnings.filterwarnings("ignore", ".*lr_scheduler.*")
    # Long jobs are measured: those that have loaded the compiled kernels, which short ones do without.
    keep_freed_memory()  # as jobs do
    scatter.COMPILED_FROM = sjlt.COMPILED_FROM = 0
    facts = {"machine": machine(options.device), "versions": versions(*line.packages)}
    for row in job["rows"]:
        measured = {**measure(line, row, options), **facts}
        with open(job["out"], "a", encoding="utf8") as file:
            file.write(json.dumps(measured) + "\n")


def show(row: Row) -> None:
    """Print a row."""
    where = f"{row['model']:8} {row['sketch']:18} batch {row['batch']:3}"
    if row["not_run"] is not None:
        print(f"{where}  not run: {row['not_run']}", flush=True)
    else:
        print(
            f"{where}  {row['ratio_to_forward_backward']:9.2f} x forward+backward (spread {row['spread']:.2g}, "
            f"n={row['repeats']})  {row['examples_per_second']:9.1f} examples/s  peak {row['peak_mib']:.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Measure everything that was asked for, writing the table after every line."""
    parser = argparse.ArgumentParser(description=__doc__)
    labels = [line.label for line in FEATURIZE]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sketches", nargs="+", choices=labels, default=labels, help="sketches and peers")
    parser.add_argument("--batches", nargs="+", type=int, help="of every model and sketch, instead of their own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--repeats", type=int, help=f"pairs of a row; default 7, quick {QUICK_REPEATS}")
    parser.add_argument("--budget", type=float, help="seconds after which a row begins no further pair; default 120")
    parser.add_argument("--memory-gib", type=float, help=f"default: {MEMORY_PART} of what is free")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="batch 16 only, few repeats, and the dense sketches and the peers on mlp only",
    )
    parser.add_argument("--out", default="results/benchmarks/featurize.csv")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        return run_job(options.job)
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else 7)
    options.budget = options.budget or (QUICK_BUDGET if options.quick else 120.0)
    rows: list[Row] = []
    for line, _, part in planned(options):
        for row in run_apart(line, part, options):
            show(row)
            rows.append(row)
        with atomic_path(options.out) as temporary:
            table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(WHOLE, "Int64"))
            table.to_csv(temporary, index=False)
    failed = [row for row in rows if str(row["not_run"]).startswith("its process")]
    if failed:
        sys.exit(f"{len(failed)} rows failed; the messages are above, and the rows say so in {options.out}.")


if __name__ == "__main__":
    main()
