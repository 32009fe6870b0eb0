"""The environments are made from one pinned set."""

import re
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    return {normal(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


def test_conda_and_pip_install_the_same_versions_of_every_dependency() -> None:
    constraints = pins((REPOSITORY / "envs/constraints.txt").read_text(encoding="utf8").splitlines())
    environment = yaml.safe_load((REPOSITORY / "envs/cpu.yaml").read_text(encoding="utf8"))
    conda = pins(next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf8"))["project"]
    wanted = {normal(re.match(r"[\w.-]+", dependency)[0]) for dependency in project["dependencies"]}
    assert set(conda) == wanted
    assert conda == {name: constraints[name] for name in wanted}
