"""Bad input: a sentence at the earliest moment, no traceback of ours, and nothing lost."""

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY, TINY, environment, overrides, snakemake

BROKEN = """
import numpy as np
import torch
from trakflow.data.digits import train
from trakflow.data.examples import Examples
from trakflow.tasks.classification import Classification


def bad_labels(size):
    found = train(size)
    labels = found.arrays["labels"].copy()
    labels[3] = 10
    return Examples({**found.arrays, "labels": labels}, found.ids)


def with_nan(size):
    found = train(size)
    inputs = found.arrays["inputs"].copy()
    inputs[5, 0, 2, 2] = np.nan
    return Examples({**found.arrays, "inputs": inputs}, found.ids)


class NaNGradients(Classification):
    def output(self, raw, batch):
        return torch.sqrt(super().output(raw, batch) - 1e6)


class NoCurvature(Classification):
    curvature = __import__("trakflow.tasks.base", fromlist=["Task"]).Task.curvature


class ZeroCurvature(Classification):
    def curvature(self, raw, batch):
        return torch.zeros(raw.shape[0])
"""


def script(folder: Path, name: str, choices: Sequence[str], **limits: int) -> subprocess.CompletedProcess[str]:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "broken.py").write_text(BROKEN, encoding="utf8")
    arguments = [
        f"hydra.searchpath=['file://{folder / 'config'}']", "experiment=digits", *overrides(TINY), *choices,
        "job.results=results/digits", "job.log=job.log",
    ]  # fmt: skip

    def limit() -> None:
        if "file_bytes" in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"], limits["file_bytes"]))

    return subprocess.run(
        [sys.executable, str(REPOSITORY / f"workflow/scripts/{name}.py"), *arguments],
        capture_output=True, text=True, cwd=folder, env=environment(), preexec_fn=limit, check=False,
    )  # fmt: skip


CASES = {
    "labels out of range": (
        "prepare_train",
        ["data.train._target_=broken.bad_labels"],
        ["Examples 3 (digit-", "labels outside 0 to 9", "data.num_classes is 10"],
    ),
    "NaN in data": (
        "prepare_train",
        ["data.train._target_=broken.with_nan"],
        ["Examples 5 (digit-", "NaN or Inf in 'inputs'"],
    ),
    "another size than stated": (
        "prepare_train",
        ["data.train.size=80"],
        ["'inputs' has 80 examples but data.train_size is 90"],
    ),
    "NaN in gradients": (
        "featurize",
        ["task._target_=broken.NaNGradients", "job.checkpoint=0", "job.shard=1"],
        ["of examples 45, 46", "NaN or Inf", "checkpoint"],
    ),
    "no curvature": (
        "featurize",
        ["task._target_=broken.NoCurvature", "job.checkpoint=0", "job.shard=0"],
        ["NoCurvature", "solver.weights=off"],
    ),
    "no GPU for fast_jl": (
        "featurize",
        ["sketch=fast_jl", "sketch.k=40", "job.checkpoint=0", "job.shard=0"],
        ["sketch=fast_jl is a CUDA kernel", "sketch=rademacher"],
    ),
    "a device that is not there": (
        "featurize",
        ["runtime.device=cuda", "job.checkpoint=0", "job.shard=0"],
        ["runtime.device=cpu"],
    ),
    "a model that refuses its arguments": (
        "featurize",
        ["+model.depth=3", "job.checkpoint=0", "job.shard=0"],
        ["`model`", "depth"],
    ),
    "a forgotten job argument": ("featurize", ["job.checkpoint=0"], ["job.shard is not set"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_script_says_what_is_wrong_in_a_sentence_and_in_its_log(copy: Path, case: str) -> None:
    name, choices, expected = CASES[case]
    done = script(copy, name, choices)
    assert done.returncode == 1
    log = (copy / "job.log").read_text(encoding="utf8")
    for part in expected:
        assert part in done.stderr
        assert part in log
    assert "Traceback" not in done.stderr + log


def test_zero_curvature_is_refused_naming_the_setting(copy: Path) -> None:
    for shard in (0, 1):
        chosen = ["task._target_=broken.ZeroCurvature", "job.checkpoint=0", f"job.shard={shard}"]
        assert script(copy, "featurize", chosen).returncode == 0
    done = script(copy, "finalize", ["job.checkpoint=0"])
    assert done.returncode == 1
    assert "zero for every training example" in done.stderr
    assert "solver.weights=off" in done.stderr


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_rest(copy: Path) -> None:
    shard = copy / "results/digits/features/0/0.safetensors"
    before = shard.read_bytes()
    done = script(copy, "featurize", ["job.checkpoint=0", "job.shard=0"], file_bytes=4096)
    assert done.returncode == 1
    assert "features/0/0.safetensors cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert shard.read_bytes() == before
    assert {path.name for path in shard.parent.iterdir()} == {"0.safetensors", "1.safetensors"}


BEFORE_ANY_JOB = {
    "an unknown key": (["sketch.kk=3"], "kk"),
    "an unknown option": (["solver=papers"], "Available options in 'solver'"),
    "a wrong type": (["shards=two"], "shards: Input should be a valid integer"),
    "k of zero": (["sketch.k=0"], "sketch.k: Input should be greater than 0"),
    "more shards than examples": (["shards=91"], "shards=91 is more than data.train_size=90"),
    "more subsets than exist": (
        ["data.train_size=4", "shards=1", "scores.topk=2"],
        "subsets of 2 out of 4 examples that exist",
    ),
    "no ridge with k above n": (["solver=paper", "sketch.k=90"], "solver.ridge=0 needs sketch.k=90 to be smaller"),
}


@pytest.mark.parametrize("case", BEFORE_ANY_JOB)
def test_the_workflow_refuses_a_configuration_before_any_job(finished: Path, case: str) -> None:
    choices, expected = BEFORE_ANY_JOB[case]
    done = snakemake(finished, [*overrides(TINY), *choices], check=False)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert "Building DAG" not in done.stderr


def test_an_unknown_experiment_lists_the_known_ones(finished: Path) -> None:
    done = snakemake(finished, [], experiment="digit", check=False)
    assert done.returncode != 0
    assert "Could not find 'experiment/digit'" in done.stderr
    assert "fashion_mnist" in done.stderr
