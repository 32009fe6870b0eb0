"""YAML that the workflow wrote, read back."""

from pathlib import Path
from typing import Any

import yaml

from trakflow.errors import StoreError


class _Plain(yaml.SafeLoader):
    """Reads YAML without aliases, of which the workflow writes none: a few lines can stand for more than memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def read_yaml(path: Path | str) -> Any:
    """Return what a YAML file holds.

    Raises:
        StoreError: It is missing, cannot be read, or is none that the workflow writes.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf8"), _Plain)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise unreadable(path, " ".join(str(error).split())[:200]) from error


def unreadable(path: Path | str, reason: str) -> StoreError:
    """Return the error of a file of which nothing can be made."""
    return StoreError(f"{path} cannot be read ({reason}). Run the workflow again, which writes it anew.")
