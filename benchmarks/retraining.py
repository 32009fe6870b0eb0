"""How many models a second retraining trains: stacked ensembles against the same models one after another.

Each repeat trains, in turn and in one process, a batch of models as one stacked ensemble (`train_ensemble`), a few of
the same models one after another (`train_model`, 5 of 50: every one costs the same), and those few by the loop that one
writes with `torch.optim.SGD` and `LambdaLR`, which is what `train_model` was before ensembles were tuned. Epochs, batch
sizes and architectures are the experiments' own; the data are random numbers of the same shapes, which no speed depends
on. Ratios are taken within a repeat. The defaults take about four minutes on an idle machine.
"""

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch

from trakflow.config.compose import compose_config
from trakflow.config.schema import Config
from trakflow.config.training import Training
from trakflow.machine import processor
from trakflow.seeds import derive_seed
from trakflow.stages.common import make_task, model_factory
from trakflow.store.files import atomic_path
from trakflow.subsets import random_subsets
from trakflow.training.ensemble import train_ensemble
from trakflow.training.sgd import batch_order, learning_rate_factor, make_model

TABLE = "results/benchmarks/retraining.csv"


def random_arrays(config: Config) -> dict[str, torch.Tensor]:
    """Return random inputs and labels of the experiment's shapes."""
    random = torch.Generator().manual_seed(0)
    size = config.data.train_size
    return {
        "inputs": torch.rand(size, config.model["inputs"], generator=random),
        "labels": torch.randint(0, int(config.data.num_classes or 1), (size,), generator=random),
    }


def train_plainly(
    config: Config, arrays: dict[str, torch.Tensor], masks: np.ndarray, settings: Training, seeds: list[int]
) -> None:
    """Train one model after another by torch's optimizer, schedule and indexing."""
    factory, task = model_factory(config), make_task(config)
    for mask, seed in zip(masks, seeds, strict=True):
        chosen = np.flatnonzero(mask)
        model = make_model(factory, derive_seed(seed, "init")).train()
        steps = settings.epochs * math.ceil(len(chosen) / settings.batch_size)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        factor = partial(learning_rate_factor, settings.schedule, steps=steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        for epoch in range(settings.epochs):
            for order in batch_order(chosen, settings.batch_size, seed, epoch):
                rows = torch.from_numpy(order)
                batch = {name: array[rows] for name, array in arrays.items()}
                optimizer.zero_grad()
                task.loss(task.forward(partial(model), batch), batch).mean().backward()
                optimizer.step()
                schedule.step()


def models_per_second(train: Callable[[], object], models: int) -> float:
    """Return the throughput of one call."""
    start = time.perf_counter()
    train()
    return models / (time.perf_counter() - start)


def measure(experiment: str, threads: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Return one row of the table."""
    torch.set_num_threads(threads)
    config = compose_config(experiment)
    arrays, count, few = random_arrays(config), arguments.models, min(arguments.models, arguments.sequential_models)
    masks = random_subsets(config.data.train_size, config.evaluation.fraction, config.seed, "evaluation", range(count))
    seeds = [derive_seed(config.seed, "retrain", 0, row) for row in range(count)]
    epochs = arguments.epochs or config.training.epochs

    def trained(number: int, settings: Training) -> None:
        train_ensemble(model_factory(config), make_task(config), arrays, masks[:number], settings, seeds[:number])

    def settings(epochs: int, ensemble: bool) -> Training:
        return config.training.model_copy(update={"epochs": epochs, "ensemble": ensemble})

    def ways(epochs: int) -> dict[str, tuple[Callable[[], object], int]]:
        return {
            "stacked": (lambda: trained(count, settings(epochs, True)), count),
            "sequential": (lambda: trained(few, settings(epochs, False)), few),
            "plain": (lambda: train_plainly(config, arrays, masks[:few], settings(epochs, False), seeds[:few]), few),
        }

    # Imports and first allocations belong to no repeat.
    for train, _ in ways(1).values():
        train()
    found = pd.DataFrame(
        [
            {way: models_per_second(train, models) for way, (train, models) in ways(epochs).items()}
            for _ in range(arguments.repeats)
        ]
    )
    ratio, plain_ratio = found["stacked"] / found["sequential"], found["stacked"] / found["plain"]
    return {
        "experiment": experiment,
        "models": count,
        "sequential_models": few,
        "epochs": epochs,
        "threads": threads,
        "sequential_models_per_second": found["sequential"].median(),
        "stacked_models_per_second": found["stacked"].median(),
        "plain_models_per_second": found["plain"].median(),
        "ratio": ratio.median(),
        "spread": f"{ratio.min():.2f} to {ratio.max():.2f}",
        "ratio_to_plain": plain_ratio.median(),
        "spread_to_plain": f"{plain_ratio.min():.2f} to {plain_ratio.max():.2f}",
        "repeats": arguments.repeats,
        "machine": machine(),
        "versions": f"python {platform.python_version()}, torch {version('torch')}, numpy {version('numpy')}",
    }


def machine() -> str:
    """Return the processor's name and the number of cores."""
    return f"{processor()}, {os.cpu_count()} cores"


def main() -> None:
    """Write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["digits", "fashion_mnist"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--models", type=int, default=50, help="models in the stacked ensemble")
    parser.add_argument("--sequential-models", type=int, default=5, help="models trained one after another")
    parser.add_argument("--epochs", type=int, help="instead of the experiment's own")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for experiment in arguments.experiments:
        for threads in arguments.threads:
            rows.append(measure(experiment, threads, arguments))
            print(f"{experiment}, {threads} thread(s): ratio {rows[-1]['ratio']:.2f}", file=sys.stderr)
    table = pd.DataFrame(rows)
    with atomic_path(TABLE) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    print(table.drop(columns=["machine", "versions"]).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
