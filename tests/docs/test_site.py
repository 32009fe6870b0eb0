"""The site is built strictly, is whole without a network, and its reference has every public name."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY

import trakflow
import trakflow.tasks
from trakflow.tasks.base import Task
from trakflow.traker.arguments import TASKS


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/site/mkdocs.yml"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text(encoding="utf8") for path in site.rglob("*.html")}


def test_no_page_loads_anything_from_elsewhere(pages) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//"
    )
    assert len(pages) > 15
    for name, html in pages.items():
        assert not loading.search(html), name


def test_links_between_pages_and_to_files_of_the_repository_lead_somewhere(site, pages) -> None:
    for name, html in pages.items():
        if name == "404.html":
            continue
        for link in re.findall(r"(?:href|src)=\"?([^\"\s>]+)", html):
            if re.match(r"[a-z]+:|#", link):
                continue
            target = (site / name).parent / link.split("#")[0]
            assert target.is_file() or (target / "index.html").is_file(), f"{name} links to {link}"


def in_reference(pages, name: str) -> bool:
    return any(f'id="{name}"' in html for page, html in pages.items() if page.startswith("api/"))


def test_the_reference_has_every_public_name(pages) -> None:
    for name in trakflow.__all__:
        if not name.startswith("__"):
            assert in_reference(pages, f"trakflow.{name}"), name


def test_the_reference_has_every_task(pages) -> None:
    for module in pkgutil.iter_modules(trakflow.tasks.__path__, "trakflow.tasks."):
        importlib.import_module(module.name)
    waiting, found = [Task], set()
    while waiting:
        kinds = [kind for kind in waiting.pop().__subclasses__() if kind.__module__.startswith("trakflow.tasks.")]
        waiting += kinds
        found |= {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    assert "trakflow.tasks.classification.Classification" in found
    for name in found:
        assert in_reference(pages, name), name


def test_every_named_task_has_a_tutorial_and_a_row_in_their_table() -> None:
    table = (REPOSITORY / "docs/tasks/index.md").read_text(encoding="utf8")
    for name in TASKS:
        page = {"log_probability": "language_modeling"}.get(name, name)
        assert (REPOSITORY / f"docs/tasks/{page}.md").is_file(), name
        assert f"[`{name}`]({page}.md)" in table, name


def test_every_experiment_is_in_the_table_of_tasks() -> None:
    table = (REPOSITORY / "docs/tasks/index.md").read_text(encoding="utf8")
    for path in (REPOSITORY / "config/experiment").glob("*.yaml"):
        assert f"`{path.stem}`" in table, path
