"""Fetching once and keeping what was fetched: locked, checked, whole or absent."""

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from trakflow.errors import DataError
from trakflow.store.files import atomic_path, file_hash

Found = TypeVar("Found")
# Takes an empty folder to work in; returns the path of what it fetched.
Fetch = Callable[[Path], Path]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine fetches into the folder, and keep others waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kept(path: Path, checksum: str, fetch: Fetch) -> Path:
    """Return the path of a file, fetching it if nobody has it; of jobs that start together one fetches for all.

    Args:
        path: Where it is kept.
        checksum: Its sha256.
        fetch: Called in an empty temporary folder if the file is not there.

    Raises:
        DataError: What is there, or what was fetched, has another sha256.
        OSError: Whatever `fetch` raises.
    """
    if not path.is_file():
        with alone(path.parent):
            if not path.is_file():
                with tempfile.TemporaryDirectory() as folder:
                    fetched = checked(fetch(Path(folder)), checksum, f"fetched as {path.name}")
                    with atomic_path(path) as temporary:
                        shutil.copyfile(fetched, temporary)
    return checked(path, checksum, "kept; delete it to have it fetched again")


def checked(path: Path, checksum: str, where: str) -> Path:
    """Return the path of a file that has this sha256.

    Raises:
        DataError: It has another.
    """
    if file_hash(path) != checksum:
        raise DataError(f"{path} is not what was published (sha256 differs; {where}). Nothing in it was read.")
    return path


def first_that_works(what: str, sources: Mapping[str, Callable[[], Found]], instead: str) -> Found:
    """Return what the first source gives that has it.

    Args:
        what: The data, for the message.
        sources: Callables by the names that the message gives them, in order.
        instead: What the user can do where none has it.

    Raises:
        DataError: None has it; says how each failed.
    """
    failures = []
    for name, source in sources.items():
        try:
            return source()
        except (OSError, subprocess.SubprocessError, HTTPException, DataError) as error:
            failures.append(f"{name}: {error}")
    raise DataError(f"{what} could not be had ({'; '.join(failures)}). {instead}")
