"""A full disk, a read-only folder, a half-written file, two Snakemakes: then the same command completes."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY, TINY, command, environment, overrides, snakemake

pytestmark = pytest.mark.faults

SCORES = "results/digits/scores/trak.npy"
SHARDS = [f"results/digits/features/1/{shard}.safetensors" for shard in range(2)]
FLAGS = ["--profile", str(REPOSITORY / "workflow/profiles/local"), "--cores", "2"]


def take_away(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Remove the features of one checkpoint and what follows; return what is complete, with its times."""
    for shard in SHARDS:
        (folder / shard).unlink()
    (folder / "results/digits/kernels/1.safetensors").unlink()
    for part in ("ridge", "scores"):
        shutil.rmtree(folder / "results/digits" / part)
    return state(folder)


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    arrays = sorted((folder / "results/digits").rglob("*.safetensors"))
    return {path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes()) for path in arrays}


def run(folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return snakemake(folder, overrides(TINY), [SCORES, *FLAGS], check=check)


def check_completed(folder: Path, finished: Path, complete: dict[Path, tuple[int, bytes]]) -> None:
    assert (folder / SCORES).read_bytes() == (finished / SCORES).read_bytes()
    now = state(folder)
    assert {path: now[path] for path in complete} == complete


@contextmanager
def own_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Put a folder onto a disk of its own."""
    kept = folder.with_name(folder.name + ".kept")
    folder.rename(kept)
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True, copy_function=shutil.copy2)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half_written_and_once_there_is_room_the_same_command_completes(
    copy: Path, finished: Path
) -> None:
    complete = take_away(copy)
    results = copy / "results"
    with own_disk(results, 64):
        free = os.statvfs(results)
        ballast = results / "ballast"
        room = 3 * free.f_frsize  # for the logs, and not for a shard
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - room))
        failed = run(copy, check=False)
        assert failed.returncode != 0
        assert "No space left on device" in failed.stderr + failed.stdout
        assert state(copy) == complete
        ballast.unlink()
        run(copy)
        check_completed(copy, finished, complete)


@contextmanager
def read_only_by_mode(results: Path) -> Iterator[Callable[[], None]]:
    folders = [path for path in [results, *results.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield lambda: [folder.chmod(0o755) for folder in folders] and None
    finally:
        for folder in folders:
            folder.chmod(0o755)


@contextmanager
def read_only_by_mount(results: Path) -> Iterator[Callable[[], None]]:
    with own_disk(results, 64):
        subprocess.run(["mount", "-o", "remount,ro", str(results)], check=True)
        yield lambda: subprocess.run(["mount", "-o", "remount,rw", str(results)], check=True) and None


def test_a_read_only_results_folder_is_named_and_once_writable_the_same_command_completes(
    copy: Path, finished: Path
) -> None:
    complete = take_away(copy)
    # Modes do not stop root.
    with (read_only_by_mode if os.getuid() else read_only_by_mount)(copy / "results") as make_writable:
        failed = run(copy, check=False)
        assert failed.returncode != 0
        assert "Read-only file system" in failed.stderr or "Permission denied" in failed.stderr
        assert "results/digits" in failed.stderr
        assert state(copy) == complete
        make_writable()
        run(copy)
        check_completed(copy, finished, complete)


def test_a_half_written_shard_stops_before_a_score_and_is_made_again_when_deleted(copy: Path, finished: Path) -> None:
    shard = copy / SHARDS[0]
    whole = shard.read_bytes()
    times = shard.stat()
    (copy / "results/digits/kernels/1.safetensors").unlink()
    for part in ("ridge", "scores"):
        shutil.rmtree(copy / "results/digits" / part)
    complete = {path: seen for path, seen in state(copy).items() if path != Path(SHARDS[0])}
    # As a copy that was cut off, or a machine without power, leaves it; Snakemake sees an old and complete file.
    shard.write_bytes(whole[: len(whole) // 2])
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    failed = run(copy, check=False)
    assert failed.returncode != 0
    assert SHARDS[0].removeprefix("results/digits/") in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (copy / SCORES).exists()
    shard.unlink()
    run(copy)
    check_completed(copy, finished, complete)


def test_a_second_snakemake_on_a_results_folder_is_refused_and_the_first_completes(copy: Path, finished: Path) -> None:
    complete = take_away(copy)
    arguments = command(copy, overrides(TINY), [SCORES, *FLAGS])
    with subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stderr
        for line in first.stderr:
            if "Featurize shard" in line:
                break
        second = run(copy, check=False)
        _, rest = first.communicate()
    assert second.returncode != 0
    assert "cannot be locked" in second.stderr
    assert first.returncode == 0, rest
    check_completed(copy, finished, complete)
