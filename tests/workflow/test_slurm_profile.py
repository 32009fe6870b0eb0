"""The Slurm profile without a cluster: tests/cluster runs it on one."""

from pathlib import Path

import pytest
import yaml
from run_snakemake import REPOSITORY, TINY, overrides, snakemake

PROFILE = REPOSITORY / "workflow/profiles/slurm"
GROUPED = ["--groups", "featurize=pieces", "--group-components"]


@pytest.mark.parametrize(("device", "pieces", "refused"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)])
def test_jobs_that_would_share_a_gpu_are_refused(tmp_path: Path, device: str, pieces: int, refused: bool) -> None:
    flags = ["--profile", str(PROFILE), *GROUPED, f"pieces={pieces}", "--dry-run"]
    done = snakemake(tmp_path, overrides(TINY, {"runtime.device": device}), flags, check=False)
    assert (done.returncode != 0) == refused
    assert ("would take the first" in done.stdout + done.stderr) == refused


def test_the_profile_groups_rules_that_there_are() -> None:
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf8"))
    rules = {
        line.split()[1].rstrip(":")
        for path in (REPOSITORY / "workflow/rules").glob("*.smk")
        for line in path.read_text(encoding="utf8").splitlines()
        if line.strip().startswith("rule ")
    }
    assert set(profile["groups"]) <= rules
    assert set(profile["group-components"]) == set(profile["groups"].values())
    assert {rule for rule in rules if rule.startswith("draw_")} <= set(profile["groups"])
