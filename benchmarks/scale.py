"""What an experiment costs before it is run: jobs, bytes, floating-point operations and hours, from its configuration.

`python benchmarks/scale.py` writes the tables of docs/scale.md; `--plan` builds the DAG of each of its large
experiments by Snakemake's dry run, and prints seconds and peak memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from trakflow.config.compose import CONFIG_ROOT, compose_config
from trakflow.config.schema import Config
from trakflow.config.shards import batch_count, shard_range
from trakflow.stages.components import instantiate

PAGE = CONFIG_ROOT.parent / "docs" / "scale.md"
TIMES = " \N{MULTIPLICATION SIGN} "
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"

# Measured on 2 cores of an AMD EPYC (virtual machine, AVX-512), torch 2.13.0: docs/benchmarks.md and docs/scale.md.
# Floating-point operations a second of forward and backward passes by both cores: examples/s of `tensor_sketch` at
# batch 64, times its ratio to a pass, times the operations of a pass.
PASSES = {"convolutions": 90 * 1.29 * 3 * 582.6e6, "transformers": 32 * 1.22 * 3 * 1.397e9}
# Time to featurize in units of a forward and backward pass.
SKETCH_RATIO = 1.35
# Of one core: the Gram matrix in float64; seconds of an eigendecomposition divided by k^3.
GRAM, EIGH = 40e9, 0.24e-9
# Of both cores: scoring in float32, its reading included (2 * 1e6 * 2048 * 100 in 2.7 s).
SCORING = 2 * 1e6 * 2048 * 100 / 2.7
# Core seconds that a job costs beyond its work.
JOB = 2.3
CORES = 2

# Operations a second of forward and backward passes on one NVIDIA H200 by benchmarks/passes.py, and the peak of its
# chip, which is an H100's, without and with tensor cores: 46 %, 32 % and 29 % of it.
GPU_PASSES = {"CIFAR-10": 30.5e12, "ImageNet": 21.7e12, "language model": 288e12}
# Time to featurize there, in units of a pass.
GPU_RATIO = {"CIFAR-10": 1.33, "ImageNet": 1.37, "language model": 1.40}
GPU_PEAK = {"float32": 67e12, "bfloat16": 989e12}
# Machines of one GPU and two cores as those above.
MACHINES = 8


@dataclass(frozen=True)
class Scale:
    """An experiment at some size: what it is called, and its configuration.

    Attributes:
        name: In the table.
        experiment: Of config/experiment.
        overrides: Of that.
        gpu: The type in which models run on a GPU; None for an experiment that needs none.
    """

    name: str
    experiment: str
    overrides: Sequence[str] = ()
    gpu: str | None = None

    @cached_property
    def config(self) -> Config:
        """The composed configuration."""
        return compose_config(self.experiment, self.overrides)

    @cached_property
    def model(self) -> "Model":
        """The size of its model."""
        return model_of(self.config)


@dataclass(frozen=True)
class Model:
    """How large a model is, and what one example costs."""

    kind: str
    parameters: int
    forward: float
    example_bytes: int


CIFAR10 = ("checkpoints.count=100", "shards=10", "evaluation.subsets=10000", "evaluation.retrains=1")
IMAGENET = ("checkpoints.count=100", "shards=128")
# GPT-2's shape with a billion parameters, and five checkpoints that the user brings; nothing is retrained.
BILLION = (
    "model.layers=18",
    "model.width=2048",
    "model.heads=16",
    "model.vocabulary=50257",
    "model.length=1024",
    "data.train_size=1000000",
    "data.target_count=1000",
    "checkpoints.count=null",
    "checkpoints.files=[a.pt,b.pt,c.pt,d.pt,e.pt]",
    "evaluation=none",
    "scores.groups=null",
    "shards=128",
    "sketch.k=4096",
    "sketch.dtype=float16",
)
SCALES = (
    Scale("digits", "digits"),
    Scale("CIFAR-10", "cifar10", CIFAR10, "float32"),
    Scale("ImageNet", "imagenet", IMAGENET, "float32"),
    Scale("language model", "sotu", BILLION, "bfloat16"),
)
PLANNED = {"CIFAR-10": SCALES[1], "ImageNet": SCALES[2]}


def model_of(config: Config) -> Model:
    """Count a model's parameters and the operations of a forward pass of one example."""
    settings = config.model
    if "vocabulary" in settings:
        return _transformer(settings["layers"], settings["width"], settings["vocabulary"], settings["length"])
    with torch.device("meta"):
        model = instantiate(settings, "model").eval()
        side = config.data.train.get("side", 32)
        images = torch.zeros(1, settings["inputs"]) if "inputs" in settings else torch.zeros(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:
            model(images)
    # Images that are given a side stay bytes.
    width = 1 if "side" in config.data.train else 4
    count = sum(parameter.numel() for parameter in model.parameters())
    return Model("convolutions", count, counter.get_total_flops(), width * images.numel() + 8)


def _transformer(layers: int, width: int, vocabulary: int, length: int) -> Model:
    matrices = 12 * layers * width**2
    attention = 4 * length * width * layers
    forward = length * (2 * (matrices + vocabulary * width) + attention)
    vectors = 13 * layers * width + 2 * width
    return Model("transformers", matrices + vectors + (vocabulary + length) * width, forward, 8 * length)


def jobs(config: Config) -> dict[str, int]:
    """Return how many jobs each rule has, in a configuration without methods beside TRAK."""
    checkpoints = config.checkpoints.total
    made_here = config.checkpoints.files is None
    evaluated = config.evaluation.source != "none"
    batches = _batches(config)
    counts = {
        "describe": 1,
        "prepare_train": 1,
        "prepare_targets": 1,
        "train_checkpoint": checkpoints * made_here,
        "import_checkpoint": checkpoints * (not made_here),
        "import_mask": checkpoints * (config.checkpoints.masks is not None),
        "featurize": checkpoints * config.shards,
        "featurize_targets": checkpoints,
        "finalize": checkpoints,
        "choose_ridge": 1,
        "score": 1,
        "score_partial": int(bool(config.partial_counts)),
        "subsets": batches,
        "retrain": batches * config.evaluation.retrains,
        "retrained_outputs": batches * config.evaluation.retrains,
        "evaluate": int(evaluated),
        "draw_gallery": 1,
        "draw_self_lds": 1,
        "draw_lds_vs_checkpoints": int(evaluated),
        "draw_predicted_vs_actual": int(evaluated),
        "draw_top_groups": int(config.scores.groups is not None),
    }
    return {rule: count for rule, count in counts.items() if count}


def _batches(config: Config) -> int:
    settings = config.evaluation
    return batch_count(settings.subsets, settings.models_per_batch) if settings.source == "retrain" else 0


def _retrained(config: Config) -> int:
    settings = config.evaluation
    return settings.subsets * settings.retrains if settings.source == "retrain" else 0


def file_bytes(config: Config, model: Model) -> dict[str, int]:
    """Return the bytes of arrays that an experiment keeps, by folder; headers and checksums come on top."""
    n, m, checkpoints = config.data.train_size, config.data.target_count, config.checkpoints.total
    k, width = int(config.sketch.k or model.parameters), {"float16": 2, "float32": 4}[config.sketch.dtype]
    side = min(n, k)
    subsets = config.evaluation.subsets if config.evaluation.source == "retrain" else 0
    shards = [shard_range(n, config.shards, shard) for shard in range(config.shards)]
    partial = sum(stop - start >= k for start, stop in shards)
    numbers = 3 if config.solver.weights == "on" else 2
    return {
        "features": checkpoints * n * (k * width + 4 * numbers),
        "Gram matrices of shards": checkpoints * partial * 8 * k**2,
        "kernels": checkpoints * 8 * (side**2 + side),
        "features of targets": checkpoints * m * 4 * (k + 1),
        "checkpoints": checkpoints * 4 * model.parameters,
        "retrained models": _retrained(config) * 4 * model.parameters,
        "subsets and outputs": subsets * n + _retrained(config) * 4 * m,
        "scores": (1 + len(config.partial_counts)) * n * m * 4 * config.scores.dense,
        "data": (n + m) * model.example_bytes,
    }


@dataclass(frozen=True)
class Work:
    """What a rule's jobs compute together."""

    jobs: int
    passes: float = 0.0
    core_seconds: float = 0.0


def work(config: Config, model: Model, ratio: float = SKETCH_RATIO) -> dict[str, Work]:
    """Return the floating-point operations of passes through the model, and core seconds beside them, of each rule."""
    n, m, checkpoints = config.data.train_size, config.data.target_count, config.checkpoints.total
    k, count = int(config.sketch.k or model.parameters), jobs(config)
    side, gradient = min(n, k), 3 * model.forward
    part = config.checkpoints.fraction if config.checkpoints.on_subsets else 1.0
    seen = config.training.epochs * n
    scoring = 2 * n * k * m / SCORING * CORES
    solving = 4 * k**2 * m / GRAM
    ridge = (2 * n * k * checkpoints + 2 * k**2 * (m + checkpoints)) / GRAM if config.checkpoints.on_subsets else 0
    retrained = _retrained(config)
    # Where every shard has at least k rows its own job adds up its part, and that of the checkpoint only the factors.
    gram, by_shards = checkpoints * side**2 * max(n, k) / GRAM, n // config.shards >= k
    found = {
        "train_checkpoint": Work(
            count.get("train_checkpoint", 0), gradient * seen * part * count.get("train_checkpoint", 0)
        ),
        "featurize": Work(count["featurize"], ratio * gradient * n * checkpoints, gram if by_shards else 0),
        "featurize_targets": Work(checkpoints, ratio * gradient * m * checkpoints),
        "finalize": Work(checkpoints, 0, checkpoints * EIGH * side**3 + (0 if by_shards else gram)),
        "choose_ridge": Work(1, 0, checkpoints * ridge),
        "score": Work(1, 0, checkpoints * (scoring + solving)),
        "score_partial": Work(
            count.get("score_partial", 0), 0, sum(config.partial_counts) * (scoring + solving + ridge)
        ),
        "retrain": Work(count.get("retrain", 0), gradient * seen * config.evaluation.fraction * retrained),
        "retrained_outputs": Work(count.get("retrained_outputs", 0), model.forward * m * retrained),
    }
    return {rule: one for rule, one in found.items() if one.jobs}


def core_hours(scale: Scale) -> float:
    """Hours of one core as those measured: the whole experiment on this kind of machine."""
    rate = PASSES[scale.model.kind] / CORES
    parts = work(scale.config, scale.model).values()
    seconds = sum(one.passes / rate + one.core_seconds for one in parts)
    return (seconds + JOB * sum(jobs(scale.config).values())) / 3600


def gpu_hours(scale: Scale, rules: Sequence[str] | None = None) -> float:
    """Hours of one GPU for all passes through the model."""
    if scale.gpu is None:
        return 0.0
    parts = work(scale.config, scale.model, GPU_RATIO[scale.name])
    passes = sum(one.passes for rule, one in parts.items() if rules is None or rule in rules)
    return passes / GPU_PASSES[scale.name] / 3600


def beside_the_gpu(scale: Scale, rules: Sequence[str] | None = None) -> float:
    """Core hours of what is computed on the CPU in any case: Gram matrices, their factors, solving and scoring."""
    parts = work(scale.config, scale.model)
    return sum(one.core_seconds for rule, one in parts.items() if rules is None or rule in rules) / 3600


def wall_hours(scale: Scale, machines: int) -> float:
    """Hours on so many machines: each rule's work divided among as many of them as it has jobs, rule after rule."""
    hours = 0.0
    for rule, one in work(scale.config, scale.model).items():
        if scale.gpu is None:
            busy = one.passes / PASSES[scale.model.kind] / 3600 + beside_the_gpu(scale, [rule]) / CORES
        else:
            busy = gpu_hours(scale, [rule]) + beside_the_gpu(scale, [rule]) / CORES
        hours += busy / min(machines, one.jobs)
    return hours + JOB * sum(jobs(scale.config).values()) / CORES / machines / 3600


def short(number: float) -> str:
    """Two digits, with a thousands separator."""
    if number == 0:
        return "\N{EN DASH}"
    if number < 9.95:
        return f"{number:.2g}".lstrip("0") if number < 1 else f"{number:.1f}"
    digits = len(str(int(number))) - 2
    return f"{int(round(number / 10**digits) * 10**digits):,}"


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{short(number / size)} {unit}"
    return f"{short(number / 1e3)} kB" if number else "\N{EN DASH}"


def _hours(number: float) -> str:
    for unit, size in (("h", 1), ("min", 60), ("s", 3600)):
        if number * size >= 1:
            return f"{short(number * size)} {unit}"
    return "< 1 s" if number else "\N{EN DASH}"


def _operations(number: float) -> str:
    unit, size = next((unit, size) for unit, size in (("T", 1e12), ("M", 1e6), ("k", 1e3)) if number >= size)
    return f"{short(number / size)} {unit}"


def _settings(scale: Scale) -> dict[str, str]:
    config, model = scale.config, scale.model
    retrained = _retrained(config)
    return {
        f"training examples n{TIMES}targets m": f"{config.data.train_size:,}{TIMES}{config.data.target_count:,}",
        "parameters": f"{model.parameters:,}",
        f"checkpoints{TIMES}shards": f"{config.checkpoints.total}{TIMES}{config.shards}",
        "k, type of features": f"{config.sketch.k:,}, {config.sketch.dtype}",
        "retrained models": f"{retrained:,}" if retrained else "\N{EN DASH}",
        "forward pass of an example, operations": _operations(model.forward),
    }


def _costs(scale: Scale) -> dict[str, str]:
    parts = work(scale.config, scale.model)
    sizes = file_bytes(scale.config, scale.model)
    training = [rule for rule in parts if rule in ("train_checkpoint", "retrain", "retrained_outputs")]
    featurizing = [rule for rule in parts if rule.startswith("featurize")]
    machines = 1 if scale.gpu is None else MACHINES
    serial = [rule for rule in parts if rule in ("choose_ridge", "score", "score_partial")]
    return {
        "**jobs**": f"**{sum(jobs(scale.config).values()):,}**",
        **{f"bytes: {name}": _bytes(size) for name, size in sizes.items()},
        "**bytes, all**": f"**{_bytes(sum(sizes.values()))}**",
        "GPU time: training and retraining": _hours(gpu_hours(scale, training)),
        "GPU time: featurizing": _hours(gpu_hours(scale, featurizing)),
        "**GPU time, all**": f"**{_hours(gpu_hours(scale))}**",
        "core time beside the GPU: Gram matrices and factors": _hours(beside_the_gpu(scale, ["featurize", "finalize"])),
        "core time beside the GPU: ridge and scores": _hours(beside_the_gpu(scale, serial)),
        f"**wall time on {MACHINES} machines (digits: 1)**": f"**{_hours(wall_hours(scale, machines))}**",
        "**core time without a GPU**": f"**{_hours(core_hours(scale))}**",
    }


def table() -> str:
    """Return both tables of the page as Markdown."""
    return "\n".join(_rows("experiment", _settings)) + "\n\n" + "\n".join(_rows("cost", _costs)) + "\n"


def _rows(title: str, of: Callable[[Scale], dict[str, str]]) -> list[str]:
    columns = [of(scale) for scale in SCALES]
    head = [title, *(scale.name for scale in SCALES)]
    body = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


def write_page() -> None:
    """Put the tables into docs/scale.md."""
    text = PAGE.read_text(encoding="utf8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2], encoding="utf8")


@dataclass(frozen=True)
class Planned:
    """What a dry run did and took."""

    jobs: dict[str, int]
    seconds: float
    core_seconds: float
    peak_bytes: int


def plan(scale: Scale, folder: Path) -> Planned:
    """Have Snakemake build the DAG in an empty folder, by a dry run that prints no job.

    Raises:
        RuntimeError: Snakemake failed; holds what it said.
    """
    chosen = folder / "snakemake_config.yaml"
    chosen.write_text(yaml.safe_dump({"experiment": scale.experiment, "overrides": list(scale.overrides)}))
    snakefile = CONFIG_ROOT.parent / "Snakefile"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    command += ["--configfile", str(chosen), "--cores", "2", "--nocolor", "--dry-run"]
    with (folder / "plan.log").open("w+", encoding="utf8") as log:
        began = time.perf_counter()
        process = subprocess.Popen([*command, "--quiet", "rules", "reason", "host"], stdout=log, stderr=log)
        # Of this process alone, where getrusage would give the largest of all children.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        log.seek(0)
        text = log.read()
    if process.returncode:
        raise RuntimeError(f"snakemake failed:\n{text[-3000:]}")
    # Linux counts in KiB, macOS in bytes.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Planned(_counts(text), seconds, used.ru_utime + used.ru_stime, peak)


def _counts(text: str) -> dict[str, int]:
    """Read how often each rule runs from the first table that a dry run prints, without the target rule."""
    rows = text.partition("Job stats:")[2].partition("\ntotal ")[0].splitlines()[3:]
    return {name: int(count) for name, count in (row.split() for row in rows) if name != "all"}


def main() -> None:
    """Write the page's tables, or plan the large experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", action="store_true", help="build the DAGs of CIFAR-10 and ImageNet by dry runs")
    if not parser.parse_args().plan:
        write_page()
        return
    for name, scale in PLANNED.items():
        with tempfile.TemporaryDirectory() as folder:
            found = plan(scale, Path(folder))
        print(
            f"{name}: {sum(found.jobs.values()):,} jobs, {found.seconds:.1f} s ({found.core_seconds:.1f} s of a core), "
            f"peak memory {found.peak_bytes / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
