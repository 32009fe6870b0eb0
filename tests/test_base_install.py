"""The base install compiles nothing.

What pip installs for `trakflow` without extras comes with its compiled parts ready (a wheel of the package index), or
is pure Python. A wheel that pip built here from sources with compiled parts has the platform tag `linux_<machine>`,
which no index takes.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

COMPILED = (".so", ".pyd", ".dylib")


def closure(name: str, extra: str = "") -> Iterator[Distribution]:
    """A package and all that it needs here, without the extras of its own."""
    waiting, seen = [(name, extra)], set()
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        found = distribution(key[0])
        yield found
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": key[1]}):
                waiting += [(requirement.name.lower(), extra) for extra in ("", *requirement.extras)]


def tags(found: Distribution) -> list[str]:
    lines = (found.read_text("WHEEL") or "").splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith("Tag: ")]


def compiled_here(found: Distribution) -> str | None:
    """Why a distribution counts as compiled at its installation, or nothing."""
    wheel = tags(found)
    if not wheel:
        return "was installed without a wheel"
    if any("-linux_" in tag for tag in wheel):
        return f"was built here for this platform ({wheel[0]})"
    if any(tag.endswith("-any") for tag in wheel):
        binaries = [str(file) for file in found.files or [] if file.name.endswith(COMPILED)]
        if binaries:
            return f"says that it is pure Python but has {binaries[0]}"
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells wheels built here from those of an index")
def test_nothing_of_the_base_install_is_compiled_when_it_is_installed() -> None:
    found = {distribution.metadata["Name"].lower(): compiled_here(distribution) for distribution in closure("trakflow")}
    assert {"torch", "numpy", "numba", "snakemake", "antlr4-python3-runtime"} <= found.keys()
    assert "traker" not in found
    assert {name: reason for name, reason in found.items() if reason} == {}


@pytest.mark.parametrize(
    ("tag", "file", "reason"),
    [
        ("cp311-cp311-manylinux_2_28_x86_64", "fast.so", None),
        ("py3-none-any", "plain.py", None),
        ("cp311-cp311-linux_x86_64", "fast.so", "built here"),
        ("py3-none-any", "fast.so", "pure Python but has fast.so"),
        (None, "plain.py", "without a wheel"),
    ],
)
def test_a_compiled_distribution_is_told_from_one_that_came_ready(tag, file, reason, tmp_path: Path) -> None:
    if tag is not None:
        (tmp_path / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n", encoding="utf8")
    (tmp_path / "RECORD").write_text(f"{file},,\n", encoding="utf8")
    found = compiled_here(PathDistribution(tmp_path))
    assert found is reason is None or reason in found
