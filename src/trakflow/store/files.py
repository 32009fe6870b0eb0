"""Files that appear whole or not at all, JSON among them, and hashes of what they hold."""

import contextlib
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trakflow.errors import StoreError


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` on success and disappears on failure.

    Raises:
        StoreError: The file cannot be written, for example because the disk is full or the folder read-only.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: matplotlib, pyarrow and pandas choose a format by it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise StoreError(_cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"{path} cannot be written: {reason}. Nothing was left behind and what was there before is unchanged; make "
        "room or correct the permissions, then run the same command again."
    )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: object) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf8")


def write_json_once(path: Path | str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Write a JSON object unless the file is there; of several processes that try at once, one succeeds.

    Returns:
        What the file holds afterwards: the value, or what another wrote.

    Raises:
        StoreError: The file cannot be written, or what is there is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        # Linked rather than renamed: a name that is taken is an error then, and not overwritten.
        own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        write_json(own, value)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
        except OSError as error:
            raise StoreError(_cannot_write(path, error)) from error
        finally:
            own.unlink()
    return read_facts(path)


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} cannot be read as JSON ({error}); delete it and run the same command again."
        ) from error


def read_facts(path: Path | str, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds an object with at least these keys.

    Raises:
        StoreError: The file is missing, is not JSON, or holds something else.
    """
    found = read_json(path)
    missing = [key for key in keys if key not in found] if isinstance(found, dict) else ["object"]
    if missing:
        raise StoreError(f"{path} holds no {', '.join(missing)}; delete it and run the same command again.")
    return found


def fingerprint(value: object) -> str:
    """Return a short hash of a JSON value, equal for equal values whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: Path | str) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
