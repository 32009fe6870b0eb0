"""The profiles of executors that run in a cloud, by Snakemake's own parser and the plugins'. Nothing is submitted."""

from argparse import Namespace
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY
from snakemake.cli import parse_args
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

PROFILES = REPOSITORY / "workflow/profiles"
EXPECTED = {
    "kubernetes": {"namespace": "default", "privileged": False},
    "aws-batch": {"region": "us-east-1", "task_timeout": 14400, "job_role": "arn:aws:iam::000000000000:role/your-role"},
    "googlebatch": {"project": "your-project", "image_family": "batch-cos-stable-official"},
}


def parsed(executor: str, profile: Path, *arguments: str) -> tuple[Namespace, ExecutorSettingsBase]:
    """What Snakemake reads of a profile, and the settings that the executor's plugin makes of it."""
    pytest.importorskip(f"snakemake_executor_plugin_{executor.replace('-', '_')}")
    _, args = parse_args(["--profile", str(profile), "--snakefile", str(REPOSITORY / "Snakefile"), *arguments])
    plugin = ExecutorPluginRegistry().get_plugin(args.executor)
    settings = plugin.get_settings(args)
    plugin.validate_settings(settings)
    return args, settings


@pytest.mark.parametrize("executor", EXPECTED)
def test_a_profile_is_what_its_plugin_takes(executor: str) -> None:
    args, settings = parsed(executor, PROFILES / executor)
    assert args.executor == executor
    for name, value in EXPECTED[executor].items():
        assert getattr(settings, name) == value
    assert (args.jobs, args.retries) == (100, 2)
    scheme = "gs" if args.default_storage_provider == "gcs" else "s3"
    assert args.default_storage_prefix == f"{scheme}://your-bucket/attributions"
    assert "your-registry/trakflow:cpu" in (args.container_image, getattr(settings, "container", None))


@pytest.mark.parametrize("executor", EXPECTED)
def test_an_option_that_the_plugin_lacks_is_refused(executor: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(executor, PROFILES / executor, f"--{executor}-no-such-option", "1")
    assert "no-such-option" in capsys.readouterr().err


def test_a_setting_of_the_site_that_is_missing_is_named(tmp_path: Path) -> None:
    lines = (PROFILES / "aws-batch/config.yaml").read_text(encoding="utf8").splitlines()
    kept = [line for line in lines if "your-queue" not in line]
    assert len(kept) == len(lines) - 1
    (tmp_path / "config.yaml").write_text("\n".join(kept), encoding="utf8")
    with pytest.raises(WorkflowError, match="--aws-batch-job-queue"):
        parsed("aws-batch", tmp_path)
