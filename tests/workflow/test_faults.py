"""Killed in the middle, or damaged on disk: the same command again ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from run_snakemake import REPOSITORY, TINY, command, environment, overrides, snakemake

pytestmark = pytest.mark.faults

SCORES = "results/digits/scores/trak.npy"
FLAGS = ["--profile", str(REPOSITORY / "workflow/profiles/local"), "--cores", "2"]


def unfeaturized(copy: Path) -> Path:
    for part in ("features", "kernels", "ridge", "scores"):
        shutil.rmtree(copy / "results/digits" / part)
    return copy


def start(folder: Path) -> subprocess.Popen[bytes]:
    arguments = command(folder, overrides(TINY), [SCORES, *FLAGS])
    return subprocess.Popen(
        arguments, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_featurize(process: subprocess.Popen[bytes], finished_first: int) -> psutil.Process:
    """Return a running featurize job, once some of its siblings have written their files."""
    features = Path(process.args[process.args.index("--directory") + 1]) / "results/digits/features"
    while process.poll() is None:
        if len(list(features.rglob("[0-9]*.safetensors"))) >= finished_first:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if child.name().startswith("python") and any("featurize.py" in part for part in child.cmdline()):
                        return child
                except psutil.NoSuchProcess:
                    continue
        time.sleep(0.02)
    raise AssertionError("Snakemake ended before a featurize job could be killed")


def kill_job(process: subprocess.Popen[bytes]) -> None:
    wait_for_featurize(process, 2).kill()
    process.wait()


def kill_snakemake(process: subprocess.Popen[bytes]) -> None:
    wait_for_featurize(process, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("kill", [kill_job, kill_snakemake])
def test_after_sigkill_the_same_command_completes_and_redoes_nothing_complete(
    finished: Path, copy: Path, kill: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    folder = unfeaturized(copy)
    process = start(folder)
    kill(process)
    assert process.returncode != 0
    assert not (folder / SCORES).exists()
    # Jobs write under a temporary name, so what has its final name is complete; but of the jobs that ran when Snakemake
    # itself died, it cannot know that and runs them again.
    running = {path.name for path in (folder / ".snakemake/incomplete").glob("*")} if kill is kill_snakemake else set()
    before = {
        path: path.stat().st_mtime_ns for path in (folder / "results/digits/features").rglob("[0-9]*.safetensors")
    }
    assert before
    snakemake(folder, overrides(TINY), ["--unlock"])
    done = snakemake(folder, overrides(TINY), [SCORES, *FLAGS])
    assert (folder / SCORES).read_bytes() == (finished / SCORES).read_bytes()
    redone = [path for path, written in before.items() if path.stat().st_mtime_ns != written]
    assert len(redone) <= len(running), done.stderr
    if kill is kill_job:
        assert not redone


def test_a_flipped_byte_in_a_shard_stops_before_a_score(copy: Path) -> None:
    shard = copy / "results/digits/features/1/0.safetensors"
    damaged = bytearray(shard.read_bytes())
    damaged[-1000] ^= 1  # in the features: what scores do not read need not stop them
    times = shard.stat()
    shard.write_bytes(damaged)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(copy / "results/digits/scores")
    done = snakemake(copy, overrides(TINY), [SCORES, *FLAGS], check=False)
    assert done.returncode != 0
    assert "features/1/0.safetensors" in done.stderr
    assert "are not what was written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / SCORES).exists()
    shard.unlink()
    snakemake(copy, overrides(TINY), [SCORES, *FLAGS])
    assert (copy / SCORES).exists()


def test_features_of_mixed_provenance_are_refused_by_name(copy: Path) -> None:
    features = copy / "results/digits/features"
    shutil.copy2(features / "0/1.safetensors", features / "1/1.safetensors")
    (copy / "results/digits/kernels/1.safetensors").unlink()
    done = snakemake(copy, overrides(TINY), ["results/digits/kernels/1.safetensors", *FLAGS], check=False)
    assert done.returncode != 0
    assert "do not belong together" in done.stderr
    assert "features/1/1.safetensors" in done.stderr
    assert "features/1/0.safetensors" in done.stderr
    assert "logs/finalize/1.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_run_by_hand_as_snakemake_prints_them(copy: Path) -> None:
    kernel = "results/digits/kernels/1.safetensors"
    before = (copy / kernel).read_bytes()
    arguments = [kernel, "--forcerun", "finalize", "--dry-run", "--printshellcmds", "--cores", "1"]
    printed = snakemake(copy, overrides(TINY), arguments)
    lines = (printed.stdout + printed.stderr).splitlines()
    shell = next(
        line.split("Shell command: ")[1] for line in lines if "finalize.py" in line and "job.checkpoint=1" in line
    )
    (copy / kernel).unlink()
    subprocess.run(["bash", "-c", shell], cwd=copy, env=environment(), check=True)
    assert (copy / kernel).read_bytes() == before
