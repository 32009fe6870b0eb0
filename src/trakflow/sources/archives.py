"""Reading one file of an archive, without unpacking the others."""

import tarfile
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
