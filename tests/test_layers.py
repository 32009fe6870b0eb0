"""No module imports one of a higher floor, and none imports Snakemake: docs/architecture.md, checked."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "trakflow"
# From the ground up. Modules of one floor do not import each other across folders.
FLOORS = [
    {"errors", "seeds", "layout", "ranks", "progress", "allocator", "machine", "held_out"},
    {"subsets"},
    {"config", "store", "devices", "extras"},
    {"sources"},
    {"data", "models", "tasks"},
    {"sketches", "training", "kernel"},
    {"features"},
    {"scoring", "topk", "kernel_file"},
    {"group_scores"},
    {"ridge", "evaluation"},
    {"methods"},
    {"figures"},
    {"stages", "traker"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide their floor"
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imported(path):
        assert not name.startswith("snakemake")
        parts = name.split(".")
        if parts[0] == "trakflow" and len(parts) > 1 and parts[1] != own:
            assert FLOOR[parts[1]] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {name}"
