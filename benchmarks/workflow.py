"""What it costs to compute as a workflow: Snakemake's wall time against the same stages called in one process.

Each is run in an empty results folder, alternately. The stages are timed one by one, without the imports before the
first of them, so that a ratio of 1 is a workflow that costs nothing, or wins back by its cores what it costs.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("digits", "fashion_mnist")
# One a job of the workflow, and as many as a process could use on the smallest machine.
THREADS = (1, 2)
# Data that has to be fetched is fetched once, not in a folder that is empty each time.
CACHES = {"fashion_mnist": [f"data.train.cache='{ROOT / 'results' / 'downloads' / 'fashion_mnist'}'"]}

Seconds = dict[str, float]
Jobs = Iterator[tuple[str, dict[str, int]]]


def jobs(config: Any) -> Jobs:
    """Yield (rule, what it is told) of every job of the workflow, in an order in which they can run."""
    checkpoints, evaluation = range(config.checkpoints.total), config.evaluation
    yield from (("describe", {}), ("prepare_train", {}))
    yield from (("train_checkpoint", {"checkpoint": checkpoint}) for checkpoint in checkpoints)
    yield "prepare_targets", {}
    for checkpoint in checkpoints:
        yield from (("featurize", {"checkpoint": checkpoint, "shard": shard}) for shard in range(config.shards))
        yield "featurize_targets", {"checkpoint": checkpoint}
        yield "finalize", {"checkpoint": checkpoint}
    yield from (("choose_ridge", {}), ("score", {}), ("score_partial", {}))
    for batch in range(-(-evaluation.subsets // evaluation.models_per_batch)):
        yield "subsets", {"batch": batch}
        for number in range(evaluation.retrains):
            yield "retrain", {"retrain": number, "batch": batch}
            yield "retrained_outputs", {"retrain": number, "batch": batch}
    yield "evaluate", {}
    yield from ((f"draw_{name}", {}) for name in ("gallery", "self_lds", "lds_vs_checkpoints", "predicted_vs_actual"))


def in_this_process(experiment: str, folder: str, threads: int, overrides: Sequence[str]) -> Seconds:
    """Call every stage, and return the seconds of each rule."""
    import torch

    from trakflow.config.compose import compose_config
    from trakflow.config.running import Job
    from trakflow.layout import Layout
    from trakflow.stages import attribute, checkpoints, describe, evaluate, featurize, figures, prepare, retrain

    torch.set_num_threads(threads)
    modules = (attribute, checkpoints, describe, evaluate, featurize, figures, prepare, retrain)
    stages = {name: stage for module in modules for name, stage in vars(module).items()}
    config = compose_config(experiment, [*overrides, f"runtime.threads={threads}"])
    layout = Layout(f"{folder}/results/{experiment}")
    seconds: Seconds = defaultdict(float)
    for rule, facts in jobs(config):
        told = config.model_copy(update={"job": Job(results=layout.root, **facts)})
        began = time.perf_counter()
        stages[rule](told, layout)
        seconds[rule] += time.perf_counter() - began
    return dict(seconds)


def in_one_process(experiment: str, threads: int, overrides: Sequence[str]) -> Seconds:
    """Start a process for `in_this_process`, with nothing imported and nothing cached, and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--in-process", experiment, folder, str(threads)]
        command += [f"--override={override}" for override in overrides]
        environment = {**os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def as_workflow(experiment: str, cores: int, overrides: Sequence[str]) -> tuple[float, Seconds, Counter[str]]:
    """Run Snakemake, and return its wall time, and by rule the seconds and the number of jobs that it noted."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = [f"experiment={experiment}", f"overrides={json.dumps(list(overrides))}"]
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder),
            *("--cores", str(cores), "--quiet", "all", "--config", *chosen),
        ]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        wall = time.perf_counter() - began
        noted = Path(folder, "results", experiment, "benchmarks")
        seconds: Seconds = defaultdict(float)
        count: Counter[str] = Counter()
        for path in noted.rglob("*.tsv"):
            rule = path.relative_to(noted).with_suffix("").parts[0]
            with path.open(encoding="utf8") as file:
                seconds[rule] += float(next(csv.DictReader(file, delimiter="\t"))["s"])
            count[rule] += 1
    return wall, dict(seconds), count


def require_same_jobs(experiment: str, count: Counter[str], overrides: Sequence[str]) -> None:
    """Refuse to compare a workflow with other stages than its own."""
    from trakflow.config.compose import compose_config

    mine = Counter(rule for rule, _ in jobs(compose_config(experiment, overrides)))
    if mine != count:
        raise RuntimeError(f"The workflow ran {dict(count)} and this benchmark {dict(mine)}; bring `jobs` up to date.")


def spread(values: Sequence[float]) -> float:
    """Return largest minus smallest."""
    return max(values) - min(values)


def measure(
    experiment: str, cores: int, repeats: int, overrides: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of an experiment, and the rows of its rules."""
    walls, alone, by_rule, noted = [], defaultdict(list), [], []
    count: Counter[str] = Counter()
    for _ in range(repeats):
        wall, seconds, count = as_workflow(experiment, cores, overrides)
        require_same_jobs(experiment, count, overrides)
        walls.append(wall)
        noted.append(seconds)
        for threads in THREADS:
            found = in_one_process(experiment, threads, overrides)
            alone[threads].append(sum(found.values()))
            if threads == THREADS[0]:
                by_rule.append(found)
    row: dict[str, Any] = {"experiment": experiment, "cores": cores, "jobs": count.total(), "n": repeats}
    row |= {"workflow_seconds": statistics.median(walls), "workflow_spread": spread(walls)}
    for threads in THREADS:
        ratios = [wall / own for wall, own in zip(walls, alone[threads], strict=True)]
        row |= {
            f"process_seconds_{threads}": statistics.median(alone[threads]),
            f"process_spread_{threads}": spread(alone[threads]),
            f"ratio_{threads}": statistics.median(ratios),
            f"ratio_spread_{threads}": spread(ratios),
        }
    rules = []
    for rule in by_rule[0]:
        jobs_seconds = statistics.median(seconds[rule] for seconds in noted)
        process_seconds = statistics.median(seconds[rule] for seconds in by_rule)
        overhead = (jobs_seconds - process_seconds) / count[rule]
        names = ("experiment", "rule", "jobs", "jobs_seconds", "process_seconds", "overhead_a_job")
        rules.append(
            dict(zip(names, (experiment, rule, count[rule], jobs_seconds, process_seconds, overhead), strict=True))
        )
    return row, rules


def where() -> dict[str, str]:
    """Name the machine and the versions."""
    from trakflow.machine import processor

    packages = ", ".join(f"{name} {version(name)}" for name in ("snakemake", "torch", "numpy", "hydra-core"))
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": f"python {platform.python_version()}, {packages}",
    }


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whole or not at all, and print it."""
    from trakflow.store.files import atomic_path

    cells = [
        {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, cells[0])
        table.writeheader()
        table.writerows(cells)
    widths = {name: max(len(str(row[name])) for row in [{name: name}, *cells]) for name in cells[0]}
    for row in [{name: name for name in cells[0]}, *cells]:
        print("  ".join(str(row[name]).rjust(width) for name, width in widths.items()))
    print()


def main() -> None:
    """Measure, write `results/benchmarks/workflow.csv` and `workflow_rules.csv`, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", action="append", help=f"repeatable; default: {' and '.join(EXPERIMENTS)}")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--override", action="append", default=[], help="a Hydra override; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "workflow.csv")
    parser.add_argument("--in-process", nargs=3, metavar=("EXPERIMENT", "FOLDER", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process is not None:
        experiment, folder, threads = arguments.in_process
        print(json.dumps(in_this_process(experiment, folder, int(threads), arguments.override)))
        return
    found = [
        measure(experiment, arguments.cores, arguments.repeats, [*CACHES.get(experiment, []), *arguments.override])
        for experiment in arguments.experiment or EXPERIMENTS
    ]
    write(arguments.output, [{**row, **where()} for row, _ in found])
    rules = arguments.output.with_name(f"{arguments.output.stem}_rules.csv")
    write(rules, [rule for _, rules in found for rule in rules])


if __name__ == "__main__":
    main()
