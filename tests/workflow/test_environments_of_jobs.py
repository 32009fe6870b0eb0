"""Which environment jobs run in.

Programs answer in the place of conda and Apptainer, which are not to be had where this project is tested: they take
the commands that Snakemake gives, and of a container's run the job's part here.
"""

import os
import stat
import sys
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY, TINY, overrides, snakemake

from trakflow.config.snakemake_config import check_container
from trakflow.errors import ConfigError

APPTAINER = """#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.3.6"; exit; fi
printf '%s\\n' "bind $APPTAINER_BIND" "nv $APPTAINER_NV" "$@" >> "$RECORD"
for last; do :; done
exec bash -c "$last"
"""
CONDA = """#!/bin/sh
case "$*" in
"info --json") echo '{"conda_prefix": "/opt/conda", "platform": "linux-64"}' ;;
"--version") echo "conda 25.1.0" ;;
"config --get channel_priority --json") echo '{"get": {"channel_priority": "strict"}}' ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs named apptainer and conda first on the search path; return the file of the former's arguments."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in (("apptainer", APPTAINER), ("conda", CONDA)):
        (folder / name).write_text(text, encoding="utf8")
        (folder / name).chmod(stat.S_IRWXU)
    record = tmp_path / "record"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.delenv("APPTAINER_BIND", raising=False)
    return record


def test_every_rule_that_computes_has_both() -> None:
    for path in (REPOSITORY / "workflow/rules").glob("*.smk"):
        text = path.read_text(encoding="utf8")
        assert text.count("shell:\n") == text.count("container:\n") == text.count("conda:\n"), path


@pytest.mark.parametrize(
    ("container", "wanted", "message"),
    [
        (None, True, "none is published.*apptainer build --build-arg DEVICE=gpu trakflow.sif envs/trakflow.def"),
        ("no_such.sif", True, "no image no_such.sif.*apptainer build"),
        ("image.sif", False, "container=image.sif would not be used.*--sdm apptainer"),
    ],
)
def test_a_container_that_cannot_be_used_is_refused(container: str | None, wanted: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        check_container(container, wanted, "gpu")


def test_a_container_is_a_file_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("image.sif").touch()
    assert check_container("image.sif", True, "cpu") == str(tmp_path / "image.sif")
    assert check_container("docker://trakflow", True, "cpu") == "docker://trakflow"
    assert check_container(None, False, "cpu") is None


def test_the_conda_environment_goes_by_the_device(programs: Path, tmp_path: Path) -> None:
    flags = ["results/digits/config.yaml", "--sdm", "conda", "--dry-run"]
    done = snakemake(tmp_path, overrides(TINY, {"runtime.device": "cuda"}), flags)
    text = done.stdout + done.stderr
    assert text.count("Conda environment") == 1
    assert "envs/gpu.yaml will be created" in text


def test_a_job_runs_in_the_container_with_the_checkout_and_the_gpu(programs: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.sif"
    image.touch()
    target = "results/digits/evaluation/subsets/0.safetensors"
    flags = [target, "--cores", "1", "--sdm", "apptainer", "--config", f"container={image}"]
    snakemake(tmp_path, overrides(TINY, {"runtime.device": "cuda"}), flags)
    assert (tmp_path / target).is_file()
    bind, gpu, *arguments = programs.read_text(encoding="utf8").splitlines()
    assert bind == f"bind {REPOSITORY}"
    assert gpu == "nv 1"
    assert arguments[:3] == ["exec", "--home", str(tmp_path)]
    assert str(image) in arguments
    (job,) = (argument for argument in arguments if "subsets.py" in argument)
    assert f"PYTHONPATH={REPOSITORY / 'src'} python -P {REPOSITORY / 'workflow/scripts'}/subsets.py" in job
