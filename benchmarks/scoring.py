"""What scoring costs next to the least it could cost, and how much memory it takes, at sizes that do not fit in memory.

Makes float16 features (4 GB by default) in shards by the project's own writer, a kernel, target features and examples;
then measures, alternately and each in a process of its own, the stage `score` as a rule would call it (reading,
verifying, products, top examples, and with `dense` the scores array, synced to the disk) and the floor:

- read: every byte of the feature files, once, into one reused buffer of 16 MiB;
- product: n x k by k x m in float32, slice by slice, of slices that are in memory in float32 already, into an array in
  memory. 1 GiB of slices is gone through again and again; slices of 1,024 and of 8,192 rows are tried, and the faster
  one counts.

The ratio is seconds of `score` / max(read, product), of each repeat. Interpreter start and imports are not in the
seconds; they are in the peak memory. With `--checkpoints` c, links stand for the features of c checkpoints, and the
floor is taken c times. `--cache cold` has the system forget the files before each measurement (Linux).
"""

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trakflow.config.schema import Config
    from trakflow.layout import Layout

RESULT = Path("results/benchmarks/scoring.csv")
SLICES = (1024, 8192)


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="training examples; fewer for a trial")
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--checkpoints", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--dense", nargs="+", choices=["false", "true"], default=["false", "true"])
    parser.add_argument("--cache", nargs="+", choices=["warm", "cold"], default=["warm"])
    parser.add_argument("--memory-mb", type=int, default=2000, help="runtime.memory_mb")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--job", choices=sorted(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the files, measure, write the table, remove the files."""
    given = arguments()
    if given.job is not None:
        print(json.dumps(JOBS[given.job](given)))
        return
    given.output.parent.mkdir(parents=True, exist_ok=True)
    needed = 2 * given.rows * given.features + 8 * given.rows * given.targets
    if shutil.disk_usage(given.output.parent).free < 1.2 * needed:
        sys.exit(f"The files need {needed / 2**30:.1f} GiB; make room, or give fewer --rows.")
    with tempfile.TemporaryDirectory(dir=given.output.parent, prefix=".scoring.") as folder:
        given.folder = Path(folder)
        run(given, "make", 1, "true")
        table = [
            measured(given, threads, dense, cache)
            for cache in given.cache
            for threads in given.threads
            for dense in given.dense
        ]
    with given.output.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)


def measured(given: argparse.Namespace, threads: int, dense: str, cache: str) -> dict[str, object]:
    """Measure one setting, alternately with its floor, and print it."""
    from trakflow.machine import processor

    found: dict[str, list[dict]] = {"score": [], "read": [], "product": []}
    for _ in range(given.repeats):
        for job, results in found.items():
            (forget if cache == "cold" else remember)(given.folder)
            results.append(run(given, job, threads, dense))
    seconds = {job: [result["seconds"] for result in results] for job, results in found.items()}
    floors = list(map(max, seconds["read"], seconds["product"]))
    ratios = [spent / floor for spent, floor in zip(seconds["score"], floors, strict=True)]
    cpu_ratios = [
        score["cpu"] / product["cpu"] for score, product in zip(found["score"], found["product"], strict=True)
    ]
    row = {
        "rows": given.rows,
        "features": given.features,
        "targets": given.targets,
        "checkpoints": given.checkpoints,
        "shards": given.shards,
        "threads": threads,
        "dense": dense,
        "cache": cache,
        "memory_mb": given.memory_mb,
        "repeats": given.repeats,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "cpu_ratio_median": round(statistics.median(cpu_ratios), 3),
        "score_seconds_median": round(statistics.median(seconds["score"]), 3),
        "read_seconds_median": round(statistics.median(seconds["read"]), 3),
        "product_seconds_median": round(statistics.median(seconds["product"]), 3),
        "peak_rss_mb_max": max(result["peak_rss_mb"] for result in found["score"]),
        "largest_error": max(result["error"] for result in found["score"]),
        "load_average": round(os.getloadavg()[0], 1),
        "processor": processor(),
        "cores": os.cpu_count(),
        **found["product"][0]["versions"],
    }
    print("; ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def run(given: argparse.Namespace, job: str, threads: int, dense: str) -> dict:
    """Do one job in a process of its own. This one stays small: a child's peak memory begins with its parent's."""
    sizes = [f"--{name}={getattr(given, name)}" for name in ("rows", "features", "targets", "shards", "checkpoints")]
    rest = [f"--threads={threads}", f"--dense={dense}", f"--memory-mb={given.memory_mb}", f"--folder={given.folder}"]
    command = [sys.executable, __file__, f"--job={job}", *sizes, *rest]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def feature_files(folder: Path) -> list[Path]:
    """Return the shards of the one checkpoint that was really written."""
    return sorted((folder / "features" / "0").iterdir())


def remember(folder: Path) -> None:
    """Have the feature files in the page cache, as far as they fit."""
    read_all(folder)


def forget(folder: Path) -> None:
    """Have the system drop the feature files from the page cache."""
    for path in feature_files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(folder: Path) -> None:
    """Read every byte into one buffer."""
    buffer = bytearray(1 << 24)
    for path in feature_files(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def timed(work: Callable[[], None]) -> dict[str, float]:
    """Return the seconds that something took, by the clock and of the processor."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def job_read(given: argparse.Namespace) -> dict:
    """Read the features once a checkpoint."""
    return timed(lambda: [read_all(given.folder) for _ in range(given.checkpoints)] and None)


def job_product(given: argparse.Namespace) -> dict:
    """Multiply slices that are in memory, once a checkpoint."""
    import numpy as np
    import torch

    torch.set_num_threads(given.threads[0])
    held = min(given.rows, max(SLICES[-1], 2**30 // (4 * given.features)) // SLICES[-1] * SLICES[-1])
    features = torch.rand(held, given.features)
    columns, result = torch.rand(given.features, given.targets), torch.zeros(given.rows, given.targets)

    def multiply(rows: int) -> None:
        for _ in range(given.checkpoints):
            for start in range(0, given.rows, rows):
                into = result[start : start + rows]
                first = start % max(1, held - rows + 1) if held < given.rows else start
                into.addmm_(features[first : first + len(into)], columns)

    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {**min((timed(lambda rows=rows: multiply(rows)) for rows in SLICES), key=lambda t: t["seconds"])} | {
        "versions": versions
    }


def job_score(given: argparse.Namespace) -> dict:
    """Run the stage, and compare some of what it wrote with float64."""
    import pandas as pd
    import torch

    from trakflow.layout import Layout
    from trakflow.stages.attribute import score

    # The first table takes a second of imports, which are not to be measured.
    pd.DataFrame({"a": [1]}).to_parquet(given.folder / "imports.parquet")

    torch.set_num_threads(given.threads[0])
    config, layout = configuration(given), Layout(str(given.folder))
    found = timed(lambda: score(config, layout))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **found,
        "peak_rss_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
        "error": largest_error(layout),
    }


def largest_error(layout: "Layout") -> float:
    """Return how far the best scores are from dense float64 ones, in units of the largest."""
    import numpy as np
    import pandas as pd

    from trakflow.features import FeatureSet
    from trakflow.store.array_file import ArrayFile

    table = pd.read_parquet(layout.score_topk)
    table = table[table["rank"] == 1].sort_values("train_index").head(50)
    features = FeatureSet(feature_files(Path(layout.root)), False)
    kernel, ridge = ArrayFile(layout.kernel(0)), json.loads(Path(layout.score_provenance).read_text())
    vectors, values = kernel.read("eigenvectors"), kernel.read("eigenvalues")
    targets = ArrayFile(layout.target_features(0)).read("features").astype(np.float64)[table["target"]]
    solved = vectors @ ((vectors.T @ targets.T) / (values + ridge["checkpoints"][0]["ridge"])[:, None])
    errors = []
    for number, (row, found) in enumerate(zip(table["train_index"], table["score"], strict=True)):
        ((_, phi),) = features.phi(row, row + 1)
        expected = (phi.numpy().astype(np.float64) @ solved[:, number])[0] * features.loss_gradients(row, row + 1)[0]
        errors.append(abs(found - expected))
    return float(max(errors) / table["score"].abs().max())


def configuration(given: argparse.Namespace) -> "Config":
    """Return an experiment of these sizes."""
    from trakflow.config.compose import compose_config

    overrides = [
        f"data.train_size={given.rows}",
        f"data.target_count={given.targets}",
        f"checkpoints.count={given.checkpoints}",
        "checkpoints.trained_on=everything",
        f"sketch.k={given.features}",
        "sketch.dtype=float16",
        f"shards={given.shards}",
        "solver.weights=off",
        "solver.ridge=1",
        "evaluation=none",
        f"scores.dense={given.dense[0]}",
        f"runtime.threads={given.threads[0]}",
        f"runtime.memory_mb={given.memory_mb}",
    ]
    return compose_config("digits", overrides)


def job_make(given: argparse.Namespace) -> dict:
    """Write all that the stage reads, one shard at a time."""
    import numpy as np

    from trakflow.config.shards import shard_range
    from trakflow.data.examples import Examples, write_examples
    from trakflow.kernel_file import features_identity
    from trakflow.layout import Layout
    from trakflow.stages.attribute import features_of
    from trakflow.stages.provenance import gradients_fingerprint, provenance
    from trakflow.store.array_file import ArrayFile, content, write_arrays
    from trakflow.store.files import write_json

    config, layout, random = configuration(given), Layout(str(given.folder)), np.random.default_rng(0)
    for path, size in ((layout.train, given.rows), (layout.targets, given.targets)):
        arrays = {"inputs": np.zeros((size, 1), dtype=np.float32), "labels": np.zeros(size, dtype=np.int64)}
        write_examples(path, Examples(arrays), {})
    same = {
        "checkpoint": 0,
        "checkpoint_content": "made by the benchmark",
        "gradients": gradients_fingerprint(config),
        "k": given.features,
    }
    facts = {**same, "data_content": content(ArrayFile(layout.train)), "total": given.rows, "dtype": "float16"}
    for shard in range(given.shards):
        start, stop = shard_range(given.rows, given.shards, shard)
        own = {"start": start, "stop": stop, "seconds": 0.0, "gram_weights": None}
        features = np.empty((stop - start, given.features), dtype=np.float16)
        for first in range(0, len(features), 4096):
            part = features[first : first + 4096]
            part[...] = random.standard_normal(part.shape, dtype=np.float32)
        arrays = {"features": features, "loss_gradients": random.random(len(features), dtype=np.float32)}
        write_arrays(layout.features(0, shard), arrays, provenance(config, "featurize", **facts, **own))
    targets = random.standard_normal((given.targets, given.features), dtype=np.float32)
    facts = {**same, "data_content": content(ArrayFile(layout.targets)), "dtype": "float16"}
    arrays = {"features": targets, "outputs": np.zeros(given.targets, dtype=np.float32)}
    write_arrays(layout.target_features(0), arrays, provenance(config, "featurize_targets", **facts))
    # Any orthogonal matrix and positive numbers do: what scoring costs does not depend on them.
    vectors, _ = np.linalg.qr(random.standard_normal((given.features, given.features)))
    arrays = {"eigenvalues": given.rows * np.linspace(0.5, 2, given.features), "eigenvectors": vectors}
    facts = {"side": "features", "weights": "off", "features": features_identity(features_of(config, layout, 0))}
    write_arrays(layout.kernel(0), arrays, provenance(config, "finalize", **facts))
    write_json(layout.ridge(given.checkpoints), {"rule": "given", "value": 1.0, "unit": "relative"})
    for path in (layout.features(0, 0), layout.target_features(0), layout.kernel(0)):
        link_checkpoints(given, Path(path))
    return {}


def link_checkpoints(given: argparse.Namespace, path: Path) -> None:
    """Have links to what was made for checkpoint 0 stand for the other checkpoints."""
    origin = path.parent if path.parent.name == "0" else path
    for number in range(1, given.checkpoints):
        origin.with_name(f"{number}{origin.suffix}").symlink_to(origin.name)


JOBS = {"make": job_make, "score": job_score, "read": job_read, "product": job_product}

if __name__ == "__main__":
    main()
