"""The real Snakemake with the Slurm profile, on the loopback cluster."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from loopback import LoopbackCluster
from run_snakemake import REPOSITORY, command, environment

# As a user would call it, but for the waiting: jobs of seconds are looked after each second, not each forty.
PROFILE = [
    "--profile",
    str(REPOSITORY / "workflow/profiles/slurm"),
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--latency-wait",
    "5",
    "--jobs",
    "4",
]


class Submitted:
    """A Snakemake that submits to the cluster; its output goes to a file beside the results."""

    def __init__(self, cluster: LoopbackCluster, folder: Path, choices: Sequence[str], targets: Sequence[str] = ()):
        self.cluster = cluster
        self.output = folder / "snakemake.out"
        self.jobs_before = {job["JobId"] for job in cluster.jobs()}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command(folder, choices, [*targets, *PROFILE]),
                env={**environment(), **cluster.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """Slurm's jobs of this run, or of one rule or group, in the order of submission."""
        jobs = [job for job in self.cluster.jobs() if job["JobId"] not in self.jobs_before]
        return [job for job in jobs if job["Comment"].startswith(f"rule_{rule}")]

    def text(self) -> str:
        return self.output.read_text(encoding="utf8")

    def finish(self, seconds: float = 1200) -> int:
        """Wait for the end, and return the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"Snakemake did not end:\n{self.text()[-4000:]}\n{self.jobs()}") from None

    def succeed(self) -> None:
        assert self.finish() == 0, f"{self.text()[-6000:]}\n{self.jobs()}"
