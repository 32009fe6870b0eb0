"""The code of every tutorial is run, and its commands are planned by Snakemake or looked up in the Makefile."""

import re
import shutil
from pathlib import Path

import pytest
from pages import Page, make_targets, plan
from run_snakemake import REPOSITORY

DOCS = REPOSITORY / "docs"
TUTORIALS = [DOCS / "quickstart.md", DOCS / "your_own_model.md", *sorted((DOCS / "tasks").glob("*.md"))]
WITH_COMMANDS = sorted(DOCS.rglob("*.md"))
RESULTS = "results/digits"


def name(path: Path) -> str:
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_a_tutorial_runs_from_its_first_line_to_its_last(path: Path, request, tmp_path: Path) -> None:
    page = Page(path)
    if RESULTS in page.program:
        shutil.copytree(request.getfixturevalue("finished") / RESULTS, tmp_path / RESULTS)
    page.write_files(tmp_path)
    printed = page.run_program(tmp_path)
    for output in page.outputs:
        assert output in printed


@pytest.mark.parametrize(
    ("path", "command"),
    [
        pytest.param(path, line, id=f"{name(path)}: {line}")
        for path in WITH_COMMANDS
        for line in Page(path).commands
        if "snakemake " in line and "--unlock" not in line
    ],
)
def test_a_command_is_understood(path: Path, command: str, tmp_path: Path) -> None:
    if "--sdm conda" in command and shutil.which("conda") is None:
        pytest.skip("Snakemake asks conda for its version, which is not installed")
    Page(path).write_files(tmp_path)
    assert re.search(r"Job stats|Nothing to be done", plan(command, tmp_path))


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name)
def test_a_make_command_has_a_target_and_an_experiment(path: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf8")
    for command in Page(path).commands:
        if not command.startswith("make "):
            continue
        assert make_targets(command), command
        for target in make_targets(command):
            assert re.search(rf"^{target}:", makefile, re.M), command
        for experiment in re.findall(r"EXPERIMENT=(\w+)", command):
            assert (REPOSITORY / f"config/experiment/{experiment}.yaml").is_file(), command
