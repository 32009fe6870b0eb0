"""Progress bars for a person at a terminal, and nothing at all elsewhere."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a bar on stderr if that is a terminal; log files and pipes stay free of it."""
    return tqdm(items, desc=description, total=total, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True)
