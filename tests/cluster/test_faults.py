"""Faults of a cluster: what was cancelled or killed is done again, and nothing else, and the scores are the same."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from loopback import LoopbackCluster, wait_until
from on_cluster import Submitted
from run_snakemake import TINY, overrides, snakemake

pytestmark = pytest.mark.cluster

SCORES = "results/digits/scores/trak.npy"
SHARD = "results/digits/features/1/0.safetensors"


@pytest.fixture
def unfinished(copy: Path) -> Path:
    """A folder in which one shard, and what follows from it, is missing."""
    (copy / SHARD).unlink()
    (copy / "results/digits/kernels/1.safetensors").unlink()
    for part in ("ridge", "scores"):
        shutil.rmtree(copy / "results/digits" / part)
    return copy


def times(folder: Path) -> dict[Path, int]:
    """When the features that a fault must leave alone were written."""
    features = (folder / "results/digits/features").rglob("[0-9]*.safetensors")
    return {path: path.stat().st_mtime_ns for path in features if path != folder / SHARD}


def check_completed(folder: Path, finished: Path, before: dict[Path, int]) -> None:
    assert (folder / SCORES).read_bytes() == (finished / SCORES).read_bytes()
    assert times(folder) == before
    nothing = snakemake(folder, overrides(TINY), [SCORES, "--cores", "2", "--dry-run"])
    assert "Nothing to be done" in nothing.stdout + nothing.stderr, nothing.stderr


def running(run: Submitted, folder: Path, wanted: Callable[[psutil.Process], bool]) -> psutil.Process:
    """Wait for a process that works for a run in a folder."""
    found: list[psutil.Process] = []

    def look() -> bool:
        assert run.process.poll() is None, run.text()
        for process in psutil.process_iter():
            try:
                if wanted(process) and process.cwd() == str(folder):
                    found.append(process)
            except psutil.Error:
                continue
        return bool(found)

    wait_until(look, "a process of the job", 300)
    return found[0]


def featurizes(process: psutil.Process) -> bool:
    return process.name().startswith("python") and any("featurize.py" in part for part in process.cmdline())


def test_a_cancelled_job_is_submitted_again_and_asks_for_more(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY), [SCORES])
    running(run, unfinished, featurizes)
    cluster.run("scancel", run.jobs("featurize")[0]["JobId"])
    run.succeed()
    cancelled, again = run.jobs("featurize")
    assert (cancelled["JobState"], again["JobState"]) == ("CANCELLED", "COMPLETED")
    assert "mem=2000M" in cancelled["TRES"]
    assert "mem=4000M" in again["TRES"]
    assert (cancelled["TimeLimit"], again["TimeLimit"]) == ("01:00:00", "02:00:00")
    check_completed(unfinished, finished, before)


def test_a_job_whose_processes_are_killed_is_submitted_again(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY), [SCORES])
    running(run, unfinished, featurizes)
    cluster.run("scancel", "--signal=KILL", f"{run.jobs('featurize')[0]['JobId']}.0")
    run.succeed()
    killed, again = run.jobs("featurize")
    assert (killed["JobState"], again["JobState"]) == ("FAILED", "COMPLETED")
    check_completed(unfinished, finished, before)


def test_after_snakemake_is_killed_the_same_command_completes_beside_the_job_that_it_left(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY), [SCORES])
    running(run, unfinished, featurizes)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait(60)
    locked = Submitted(cluster, unfinished, overrides(TINY), [SCORES])
    assert locked.finish() != 0
    assert "--unlock" in locked.text()
    snakemake(unfinished, overrides(TINY), ["--unlock"])
    # The first featurize job is Slurm's, and goes on: whole files are renamed into place, so either may be the last.
    Submitted(cluster, unfinished, overrides(TINY), [SCORES]).succeed()
    check_completed(unfinished, finished, before)


def test_a_job_step_that_is_lost_ends_at_its_time_limit_and_is_submitted_again(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY, {"runtime.minutes": 1}), [SHARD])
    job = running(run, unfinished, featurizes)
    next(parent for parent in job.parents() if "slurmstepd" in parent.name()).kill()
    run.succeed()
    # srun does not notice that it waits for nothing.
    lost, *_, again = run.jobs("featurize")
    assert (lost["JobState"], again["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert (lost["TimeLimit"], again["TimeLimit"]) == ("00:01:00", "00:02:00")
    Submitted(cluster, unfinished, overrides(TINY), [SCORES]).succeed()
    check_completed(unfinished, finished, before)


def test_jobs_wait_for_drained_nodes_and_go_on_when_they_are_resumed(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY), [SCORES])
    running(run, unfinished, featurizes)
    cluster.run("scontrol", "update", "NodeName=cpu[1-2]", "State=DRAIN", "Reason=test")
    try:
        wait_until(lambda: run.jobs("finalize"), "the next job", 300)
        assert [job["JobState"] for job in run.jobs("finalize")] == ["PENDING"]
        assert "drained" in cluster.states()["cpu1"]
    finally:
        cluster.run("scontrol", "update", "NodeName=cpu[1-2]", "State=RESUME")
    run.succeed()
    assert {job["JobState"] for job in run.jobs()} == {"COMPLETED"}
    check_completed(unfinished, finished, before)


def test_a_job_over_its_memory_is_killed_and_completes_with_more(
    cluster: LoopbackCluster, finished: Path, unfinished: Path
) -> None:
    before = times(unfinished)
    run = Submitted(cluster, unfinished, overrides(TINY, {"runtime.memory_mb": 300}), [SHARD])
    run.succeed()
    first, *_, last = run.jobs("featurize")
    assert "mem=300M" in first["TRES"]
    assert first["JobState"] in ("FAILED", "OUT_OF_MEMORY")
    assert "mem=300M" not in last["TRES"]
    assert last["JobState"] == "COMPLETED"
    Submitted(cluster, unfinished, overrides(TINY), [SCORES]).succeed()
    check_completed(unfinished, finished, before)
