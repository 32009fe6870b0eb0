"""Reading files of an archive, without unpacking the others, and without believing what it says of its size."""

import contextlib
import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

# What an archive unpacks to at most; the largest that is read here, CIFAR-10, has 184 MB.
LIMIT = 1 << 31
GZIP = b"\x1f\x8b"


def tar_member(path: Path, name: str) -> bytes:
    """Return the contents of one file of a tar archive, compressed by gzip or not.

    Raises:
        KeyError: There is none of this name, or it is a folder.
        OSError: The archive is damaged, or unpacks to more than `LIMIT` bytes.
    """
    with _read(path) as archive:
        for entry in archive:
            if entry.name == name and (file := archive.extractfile(entry)) is not None:
                return file.read()
    raise KeyError(f"no file is named {name}")


def tar_members(path: Path, pattern: str) -> dict[str, bytes]:
    """Return the contents of the files of a tar archive whose names match a pattern, by name, in one pass over it.

    Raises:
        KeyError: There is none.
        OSError: As for `tar_member`.
    """
    with _read(path) as archive:
        files = ((entry.name, archive.extractfile(entry)) for entry in archive if fnmatch(entry.name, pattern))
        found = {name: file.read() for name, file in files if file is not None}
    if not found:
        raise KeyError(f"no file is named {pattern}")
    return found


def zip_member(path: Path, name: str) -> bytes:
    """Return the contents of one file of a zip archive, for example a wheel.

    Raises:
        KeyError: There is none of this name.
        OSError: As for `tar_member`.
    """
    with _damage_is_an_oserror(), zipfile.ZipFile(path) as archive, archive.open(name) as file:
        found = file.read(LIMIT + 1)
        if len(found) > LIMIT:
            raise OSError(f"{name} unpacks to more than {LIMIT} bytes")
        return found


class _Bounded:
    """Reads up to a limit; asked for blocks, it never holds more than one."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read, self._left = read, LIMIT

    def read(self, size: int) -> bytes:
        found = self._read(size)
        self._left -= len(found)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {LIMIT} bytes")
        return found


@contextlib.contextmanager
def _read(path: Path) -> Iterator[tarfile.TarFile]:
    with _damage_is_an_oserror(), path.open("rb") as raw:
        compressed = raw.read(2) == GZIP
        raw.seek(0)
        read = gzip.GzipFile(fileobj=raw).read if compressed else raw.read
        # As a stream, which is read in small blocks whatever a header says of what follows it.
        with tarfile.open(fileobj=_Bounded(read), mode="r|") as archive:  # type: ignore[call-overload]
            yield archive


@contextlib.contextmanager
def _damage_is_an_oserror() -> Iterator[None]:
    """Both formats' readers have several errors for damage, and let others through from the compression below them."""
    try:
        yield
    except (OSError, KeyError):
        raise
    except Exception as error:
        raise OSError(f"it is damaged: {type(error).__name__}: {error}") from error
