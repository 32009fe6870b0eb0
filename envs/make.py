"""Write the environments from pyproject.toml and constraints.txt: `make envs`.

For each device, `<device>.txt` pins every package that the base install and EXTRAS need; both container definitions
install it. `<device>.yaml` is the same as a conda environment. What the packages need in turn is read from
those that are installed here.
"""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVS = Path(__file__).resolve().parent
PYTHON = "3.11"
# Every experiment runs in every environment, and where there is no shared file system.
EXTRAS = ("text", "storage")
# What only the CUDA build of torch needs. Triton compiles a launcher with gcc for each kernel.
CUDA = re.compile(r"cuda-|nvidia-|triton$")
SYSTEM = {"cpu": [], "gpu": ["gcc"]}
# The environments are for this platform, wherever they are written.
PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}


def pins() -> dict[str, str]:
    """Return the version of every package of constraints.txt, by its normalised name."""
    lines = (ENVS / "constraints.txt").read_text(encoding="utf8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def declared() -> list[str]:
    """Return the requirements that pyproject.toml declares, with those of the extras."""
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return [
        *project["dependencies"],
        *(item for extra in EXTRAS for item in project["optional-dependencies"][extra]),
    ]


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of all packages that requirements need on PLATFORM, but for those of torch's CUDA build.

    Args:
        requirements: As in pyproject.toml.

    Raises:
        PackageNotFoundError: One of them is not installed here.
    """
    waiting = [(requirement, "") for requirement in map(Requirement, requirements)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({**PLATFORM, "extra": extra})) or CUDA.match(name):
            continue
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(needed, wanted) for needed in map(Requirement, distribution(name).requires or [])]
    return {name for name, _ in seen}


def pinned(device: str) -> list[str]:
    """Return the lines `name==version` of a device's environment."""
    versions = pins()
    names = closure(declared())
    if device == "gpu":
        names |= {name for name in versions if CUDA.match(name)}
    unpinned = sorted(names - versions.keys())
    if unpinned:
        raise SystemExit(f"constraints.txt does not pin {', '.join(unpinned)}: add the versions that are installed.")
    return [f"{name}=={versions[name]}" for name in sorted(names)]


def rendered(device: str) -> dict[str, str]:
    """Return the text of each file of a device, by its name."""
    lines = pinned(device)
    use = f"all that jobs need with runtime.device={'cpu' if device == 'cpu' else 'cuda'}"
    head = f"# Written by `make envs` from constraints.txt and pyproject.toml: {use}.\n"
    packages = "".join(f"      - {line}\n" for line in lines)
    system = "".join(f"  - {name}\n" for name in SYSTEM[device])
    conda = f"channels:\n  - conda-forge\ndependencies:\n  - python={PYTHON}\n{system}  - pip\n  - pip:\n{packages}"
    return {f"{device}.txt": head + "".join(f"{line}\n" for line in lines), f"{device}.yaml": head + conda}


if __name__ == "__main__":
    for device in SYSTEM:
        for name, text in rendered(device).items():
            (ENVS / name).write_text(text, encoding="utf8")
