"""Any experiment runs on Slurm by the profile: the same scores, and what was configured is what Slurm was asked for."""

import itertools
import shutil
from pathlib import Path

import pytest
from loopback import LoopbackCluster
from on_cluster import Submitted
from run_snakemake import TINY, overrides, snakemake

pytestmark = pytest.mark.cluster

# Files that hold no times, and so must be the same to the last byte.
SAME = ("data", "checkpoints", "kernels", "target_features", "ridge", "scores", "evaluation/outputs", "figures")


def contents(folder: Path) -> dict[str, bytes]:
    root = folder / "results/digits"
    files = [path for part in SAME for path in (root / part).rglob("*") if path.is_file()]
    timed = {"lds_vs_checkpoints.csv", "trak.json"}  # seconds of featurizing; the commit, and the time of writing
    return {str(path.relative_to(root)): path.read_bytes() for path in files if path.name not in timed}


def asked(job: dict[str, str]) -> tuple[str, str, str]:
    tres = dict(part.split("=") for part in job["TRES"].split(","))
    return tres["cpu"], tres["mem"], job["TimeLimit"]


def test_the_whole_experiment_has_the_scores_of_the_local_run(
    cluster: LoopbackCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local, submitted = (tmp_path_factory.mktemp(name) for name in ("local", "submitted"))
    snakemake(local, [])
    run = Submitted(cluster, submitted, overrides({"runtime.memory_mb": 1500, "runtime.minutes": 20}))
    run.succeed()
    expected = contents(local)
    assert expected["scores/trak.npy"]
    found = contents(submitted)
    assert {name for name in expected if found.get(name) != expected[name]} == set()

    jobs = run.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert {job["Partition"] for job in jobs} == {"cpu"}
    assert len(run.jobs("featurize_wildcards")) == 10
    assert {asked(job) for job in run.jobs("featurize")} == {("1", "1500M", "00:20:00")}
    # Grouped: up to four factorizations, and the figures, each in one Slurm job that asks for all of them at once.
    assert sum(int(asked(job)[0]) for job in run.jobs("finalize")) == 10
    assert len(run.jobs("finalize")) == 3
    assert {asked(job) for job in run.jobs("finalize")} == {("4", "6000M", "00:20:00"), ("2", "3000M", "00:20:00")}
    assert [asked(job) for job in run.jobs("figures")] == [("4", "6000M", "00:20:00")]


def test_jobs_with_device_cuda_get_a_gpu_each_in_the_partition_that_has_them(
    cluster: LoopbackCluster, copy: Path
) -> None:
    shutil.rmtree(copy / "results/digits/checkpoints")
    weights = [f"results/digits/checkpoints/{checkpoint}.safetensors" for checkpoint in range(3)]
    choices = overrides(TINY, {"runtime.device": "cuda", "runtime.threads": 2})
    run = Submitted(cluster, copy, choices, [*weights, "--retries", "0"])
    # Slurm's GPUs here are none, and the job says so rather than compute elsewhere.
    assert run.finish() != 0
    assert "runtime.device=cuda" in run.text()
    jobs = run.jobs("train_checkpoint")
    assert len(jobs) == 3
    assert {job["Partition"] for job in jobs} == {"gpu"}
    assert {job["TresPerJob"] for job in jobs} == {"gres:gpu:1"}
    assert {asked(job)[0] for job in jobs} == {"2"}
    devices = cluster.devices()
    at_once = [
        (devices[one["JobId"]], devices[other["JobId"]])
        for one, other in itertools.combinations(jobs, 2)
        if one["StartTime"] < other["EndTime"] and other["StartTime"] < one["EndTime"]
    ]
    assert at_once
    assert all({one, other} == {"0", "1"} for one, other in at_once)
