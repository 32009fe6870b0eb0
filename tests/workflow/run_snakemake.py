"""Running the real Snakemake from tests, and reading from its dry runs what would be done."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

# The whole DAG, small: every rule runs, in seconds.
TINY = {
    "data.train_size": 90,
    "shards": 2,
    "data.target_count": 12,
    "model.widths": "[12]",
    "training.epochs": 4,
    "sketch.k": 40,
    "checkpoints.count": 3,
    "evaluation.subsets": 8,
    "evaluation.retrains": 2,
    "evaluation.models_per_batch": 8,
    "evaluation.checkpoint_counts": "[1]",
    "evaluation.bootstrap": 100,
    "scores.topk": 5,
    "figures.gallery_targets": 2,
}


def overrides(*changes: Mapping[str, object]) -> list[str]:
    merged: dict[str, object] = {}
    for change in changes:
        merged |= change
    return [f"{key}={value}" for key, value in merged.items()]


def command(
    folder: Path, choices: Sequence[str], arguments: Sequence[str] = (), experiment: str = "digits"
) -> list[str]:
    # A config file rather than --config: no shell takes part in quoting the overrides.
    config = folder / "snakemake_config.yaml"
    config.write_text(yaml.safe_dump({"experiment": experiment, "overrides": list(choices)}), encoding="utf8")
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    return [*base, "--configfile", str(config), "--nocolor", *(arguments or ["--cores", "2"])]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
    }


def snakemake(
    folder: Path, choices: Sequence[str], arguments: Sequence[str] = (), experiment: str = "digits", check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(folder, choices, arguments, experiment), capture_output=True, text=True, env=environment(), check=False
    )
    if check and done.returncode:
        raise AssertionError(f"snakemake failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done


def planned(
    folder: Path, choices: Sequence[str], arguments: Sequence[str] = ("--cores", "2"), experiment: str = "digits"
) -> Counter[str]:
    """Return how often each rule would run, without the target rule `all`."""
    done = snakemake(folder, choices, [*arguments, "--dry-run"], experiment)
    text = done.stdout + done.stderr
    if "Nothing to be done" in text:
        return Counter()
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", text, re.M | re.S)
    assert table, text
    return Counter(
        {name: int(count) for name, count in (line.split() for line in table[1].splitlines()) if name != "all"}
    )
