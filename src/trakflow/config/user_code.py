"""The user's own source code as a part of the configuration.

Stages made by trakflow's code carry version numbers; the code that a user's `_target_` names has none, so its source is
hashed instead: a changed `data.py` or `task.py` makes what it made again.
"""

import hashlib
import importlib.util
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_source(component: Mapping[str, Any]) -> dict[str, Any]:
    """Return a component with the hash of the module that its `_target_` names, if that is the user's own.

    Components among its arguments, also in lists and mappings there, get theirs too.

    trakflow's own stages carry versions. Installed packages, modules that the named one imports, and data files that it
    reads are not followed.
    """
    source = _own_source(str(component["_target_"]))
    within = {name: _followed(argument) for name, argument in component.items()}
    return within if source is None else {**within, "_source_": hashlib.sha256(source).hexdigest()[:16]}


def _followed(argument: Any) -> Any:
    if isinstance(argument, Mapping):
        return with_source(argument) if "_target_" in argument else {k: _followed(v) for k, v in argument.items()}
    return [_followed(part) for part in argument] if isinstance(argument, list | tuple) else argument


def _own_source(target: str) -> bytes | None:
    parts = target.split(".")
    if parts[0] == "trakflow":
        return None
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.util.find_spec(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        if found is not None and found.origin is not None:
            path = Path(found.origin)
            return path.read_bytes() if path.suffix == ".py" and not _installed(path) else None
    return None


def _installed(path: Path) -> bool:
    return any(path.is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib"))
