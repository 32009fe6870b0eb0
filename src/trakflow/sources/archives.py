"""Reading files of an archive, without unpacking the others."""

import tarfile
from fnmatch import fnmatch
from pathlib import Path


def tar_member(path: Path, name: str) -> bytes:
    """Return the contents of one file of a tar archive, compressed or not.

    Raises:
        KeyError: There is none of this name, or it is a folder.
        OSError, tarfile.TarError, zlib.error, EOFError: The archive is damaged.
    """
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        if file is None:
            raise KeyError(f"{name} is not a file")
        return file.read()


def tar_members(path: Path, pattern: str) -> dict[str, bytes]:
    """Return the contents of the files of a tar archive whose names match a pattern, by name, in one pass over it.

    Raises:
        KeyError: There is none.
        OSError, tarfile.TarError, zlib.error, EOFError: The archive is damaged.
    """
    with tarfile.open(path) as archive:
        files = ((entry.name, archive.extractfile(entry)) for entry in archive if fnmatch(entry.name, pattern))
        found = {name: file.read() for name, file in files if file is not None}
    if not found:
        raise KeyError(f"no file is named {pattern}")
    return found
