"""What a sketch costs in LDS for what it saves in time: LDS against seconds of featurizing, sketch by sketch.

Reads finished `results/EXPERIMENT` folders, takes their data, checkpoints and retrained outputs as they are, and
computes features, ridge and scores of each sketch in `benchmarks/sketches.py` with the stages of the workflow, one
after the other in this process. Writes `results/benchmarks/sketch_quality.csv`, `.svg` and `.png`.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from measure import machine, spread, versions
from sketches import QUALITY, Compared, Settings
from trakflow.config.compose import compose_config
from trakflow.config.running import Job
from trakflow.config.schema import Config
from trakflow.layout import Layout
from trakflow.stages.attribute import choose_ridge, features_of, finalize, score
from trakflow.stages.common import load_model, make_task, tensors
from trakflow.stages.evaluate import evaluate
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import atomic_path

# Of all sketches and of the floor.
BATCH = 256
# What every sketch shares with the finished experiment.
SHARED = ("data", "checkpoints", "evaluation/subsets", "evaluation/outputs")
COLUMNS = [
    "experiment",
    "label",
    "family",
    "sketch",
    "k",
    "side",
    "checkpoints",
    "lds",
    "ci_low",
    "ci_high",
    "confidence",
    "ceiling",
    "ridge",
    "featurize_seconds",
    "spread",
    "forward_backward_seconds",
    "ratio_to_forward_backward",
    "repeats",
    "examples",
    "parameters",
    "batch",
    "threads",
    "machine",
    "versions",
]

Row = dict[str, Any]
Stage = Callable[[Config, Layout], None]


def read_config(experiment: str, settings: Settings) -> Config:
    """Return the configuration that a finished experiment was made by, with another sketch and one LDS: of all.

    Raises:
        SystemExit: The experiment is not finished.
    """
    import yaml

    layout = Layout(f"results/{experiment}")
    needed = [layout.config, layout.lds, *(f"{layout.root}/{name}" for name in SHARED)]
    missing = [path for path in needed if not Path(path).exists()]
    if missing:
        sys.exit(f"{missing[0]} is not there: finish the experiment first, with `make run EXPERIMENT={experiment}`.")
    values = yaml.safe_load(Path(layout.config).read_text(encoding="utf8"))
    if values["evaluation"]["source"] != "retrain":
        sys.exit(f"results/{experiment} has no retrained outputs of its own (evaluation.source=retrain).")
    total = Config.model_validate({**values, "runtime": {}}).checkpoints.total
    values["evaluation"]["checkpoint_counts"] = [total]
    return Config.model_validate({**values, "sketch": dict(settings), "runtime": {"batch_size": BATCH}})


def link_shared(experiment: str, layout: Layout) -> None:
    """Link what all sketches share into a results folder of its own."""
    for name in SHARED:
        link, origin = Path(layout.root, name), Path("results", experiment, name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(origin, link.parent), target_is_directory=True)


def run(stage: Stage, config: Config, layout: Layout, **job: int) -> None:
    """Call a stage as its rule would."""
    stage(config.model_copy(update={"job": Job.model_validate(job)}), layout)


def featurize_training(config: Config, layout: Layout) -> float:
    """Featurize all training examples by all checkpoints; return the seconds that the features' own records say."""
    for checkpoint in range(config.checkpoints.total):
        for shard in range(config.shards):
            run(featurize, config, layout, checkpoint=checkpoint, shard=shard)
    return sum(features_of(config, layout, number).seconds for number in range(config.checkpoints.total))


def forward_backward_seconds(config: Config, layout: Layout) -> float:
    """Return the seconds of plain passes of all training examples by all checkpoints: the floor."""
    arrays, task, size = (
        tensors(ArrayFile(layout.train), torch.device("cpu")),
        make_task(config),
        BATCH,
    )
    seconds = 0.0
    for checkpoint in range(config.checkpoints.total):
        model = load_model(config, layout.checkpoint(checkpoint))
        began = time.perf_counter()
        for start in range(0, config.data.train_size, size):
            batch = {name: array[start : start + size] for name, array in arrays.items()}
            task.output(task.forward(model, batch), batch).sum().backward()
            model.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
    return seconds


def compare(experiment: str, point: Compared, repeats: int, budget: float) -> Row:
    """Return the row of one sketch in one experiment."""
    row: Row = {
        "experiment": experiment,
        "label": point.label,
        "family": point.family,
        "sketch": point.settings["name"],
        "side": point.settings.get("side"),
    }
    config = read_config(experiment, point.settings)
    layout = Layout(f"results/benchmarks/sketch_quality/{experiment}/{point.label}")
    link_shared(experiment, layout)
    # What a first call does once does not belong to any sketch.
    run(featurize, config, layout, checkpoint=0, shard=0)
    forward_backward_seconds(config, layout)
    seconds: list[float] = []
    floor: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < budget):
        floor.append(forward_backward_seconds(config, layout))
        seconds.append(featurize_training(config, layout))
    return {**row, **_quality(config, layout), **_timing(config, layout, seconds, floor)}


def _quality(config: Config, layout: Layout) -> Row:
    total = config.checkpoints.total
    for checkpoint in range(total):
        run(featurize_targets, config, layout, checkpoint=checkpoint)
        run(finalize, config, layout, checkpoint=checkpoint)
    for stage in (choose_ridge, score):
        run(stage, config, layout, count=total)
    run(evaluate, config, layout)
    found = pd.read_csv(layout.lds).iloc[-1]
    kept = ("k", "checkpoints", "lds", "ci_low", "ci_high", "ceiling", "ridge")
    return {**{name: found[name] for name in kept}, "confidence": config.evaluation.confidence}


def _timing(config: Config, layout: Layout, seconds: list[float], floor: list[float]) -> Row:
    model = load_model(config, layout.checkpoint(0))
    ratios = [own / plain for own, plain in zip(seconds, floor, strict=True)]
    return {
        "featurize_seconds": statistics.median(seconds),
        "spread": spread(seconds),
        "forward_backward_seconds": statistics.median(floor),
        "ratio_to_forward_backward": statistics.median(ratios),
        "repeats": len(seconds),
        "examples": config.data.train_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "machine": machine("cpu"),
        "versions": versions("trakflow", "torch", "numpy"),
    }


def main() -> None:
    """Compare everything, writing the table after every sketch, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    labels = [point.label for point in QUALITY]
    parser.add_argument("experiments", nargs="*", default=["digits", "fashion_mnist"])
    parser.add_argument("--sketches", nargs="+", choices=labels, default=labels)
    parser.add_argument("--threads", type=int, help="default: torch's own choice; the workflow's jobs have 1")
    parser.add_argument("--repeats", type=int, default=3, help="of featurizing, for the median of its seconds")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which featurizing is not repeated")
    parser.add_argument("--draw", action="store_true", help="only draw the table that is there")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    path = Path("results/benchmarks/sketch_quality.csv")
    if not options.draw:
        _write(path, options)
    _draw(path)


def _write(path: Path, options: argparse.Namespace) -> None:
    rows: list[Row] = []
    for experiment in options.experiments:
        for point in QUALITY:
            if point.label not in options.sketches:
                continue
            rows.append(compare(experiment, point, options.repeats, options.budget))
            table = pd.DataFrame(rows, columns=COLUMNS)
            whole = ["k", "side", "checkpoints", "repeats", "examples", "parameters", "batch", "threads"]
            with atomic_path(path) as temporary:
                table.astype(dict.fromkeys(whole, "Int64")).to_csv(temporary, index=False)
            print(_line(rows[-1]), flush=True)


def _line(row: Row) -> str:
    where = f"{row['experiment']:14} {row['label']:22}"
    return (
        f"{where} k={row['k']:<6} LDS {row['lds']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f}), "
        f"{row['featurize_seconds']:.2f} s (n={row['repeats']}), "
        f"{row['ratio_to_forward_backward']:.2f} x forward+backward"
    )


def _draw(path: Path) -> None:
    from plot_quality import draw
    from trakflow.figures.style import apply_style

    apply_style(compose_config("digits").figures)
    table = pd.read_csv(path)
    if table["lds"].isna().all():
        sys.exit(f"{path} holds no measured row, so there is nothing to draw.")
    figure = draw(table)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with atomic_path(path.with_suffix(f".{suffix}")) as temporary:
            figure.savefig(temporary, metadata=metadata)


if __name__ == "__main__":
    main()
