"""Every environment is made from one pinned set, and is what `make envs` writes."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from trakflow.stages import provenance

REPOSITORY = Path(__file__).parents[1]
ENVS = REPOSITORY / "envs"
DEVICES = ("cpu", "gpu")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    return {normal(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


def of_file(name: str) -> dict[str, str]:
    return pins((ENVS / name).read_text(encoding="utf8").splitlines())


def of_conda(device: str) -> tuple[list[str], dict[str, str]]:
    """What conda itself installs, and what pip does in the environment."""
    entries = yaml.safe_load((ENVS / f"{device}.yaml").read_text(encoding="utf8"))["dependencies"]
    by_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    return [entry for entry in entries if isinstance(entry, str)], pins(by_pip)


@pytest.mark.parametrize("device", DEVICES)
def test_conda_and_pip_install_the_same_versions_of_every_dependency(device: str) -> None:
    _, conda = of_conda(device)
    constraints = of_file("constraints.txt")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf8"))["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in ("text", "storage") for name in project["optional-dependencies"][extra]),
    ]
    wanted = {normal(re.match(r"[\w.-]+", dependency)[0]) for dependency in declared}
    assert wanted <= set(conda)
    assert conda == {name: constraints[name] for name in conda}
    assert conda == of_file(f"{device}.txt")


@pytest.mark.parametrize("device", DEVICES)
def test_the_files_are_what_make_envs_writes(device: str) -> None:
    specification = importlib.util.spec_from_file_location("make_envs", ENVS / "make.py")
    make = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make)
    for name, text in make.rendered(device).items():
        assert (ENVS / name).read_text(encoding="utf8") == text, f"envs/{name} is not up to date: run `make envs`."


def test_the_gpu_differs_by_what_torchs_cuda_build_needs() -> None:
    cpu, gpu = of_file("cpu.txt"), of_file("gpu.txt")
    assert cpu.items() <= gpu.items()
    assert {"triton", "nvidia-cublas", "cuda-toolkit"} <= {name for name in gpu if name not in cpu}
    assert set(of_conda("gpu")[0]) - set(of_conda("cpu")[0]) == {"gcc"}


def test_the_containers_are_made_alike_and_from_the_same_files() -> None:
    docker = (ENVS / "Dockerfile").read_text(encoding="utf8")
    apptainer = (ENVS / "trakflow.def").read_text(encoding="utf8")
    (base,) = re.findall(r"^FROM (.+)$", docker, re.M)
    assert re.findall(r"^From: (.+)$", apptainer, re.M) == [base]
    copied = {name.replace("${DEVICE}", "{{ DEVICE }}") for name in re.findall(r"envs/\S+", docker.split("COPY")[1])}
    assert copied == set(re.findall(r"^ +(envs/.+?) /opt/trakflow/", apptainer, re.M))
    for definition in (docker, apptainer):
        assert "sh /opt/trakflow/install.sh" in definition
        assert "PATH=/opt/environment/bin:$PATH" in definition
    python = next(entry for entry in of_conda("cpu")[0] if entry.startswith("python="))
    major, minor = python.removeprefix("python=").split(".")
    assert f"!= ({major}, {minor})" in (ENVS / "install.sh").read_text(encoding="utf8")


def test_an_unknown_device_is_refused_before_anything_is_installed() -> None:
    done = subprocess.run(["sh", str(ENVS / "install.sh"), "tpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "DEVICE is cpu or gpu, not 'tpu'\n"


def test_a_job_needs_no_installed_trakflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a conda environment or a container its code is the checkout's."""

    def of_others(name: str) -> str:
        assert name != "trakflow"
        return version(name)

    monkeypatch.setattr(provenance, "version", of_others)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf8"))["project"]
    assert provenance._versions()["trakflow"] == project["version"]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_the_pins_of_an_environment_go_together(device: str) -> None:
    """Minutes: pip asks the package index what each needs."""
    command = ["-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--requirement", f"{device}.txt"]
    done = subprocess.run([sys.executable, *command], cwd=ENVS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
