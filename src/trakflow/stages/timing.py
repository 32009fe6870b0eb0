"""Seconds that pieces of a job took: written to its log, and read from there by the stage that compares costs."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from trakflow.errors import StoreError
from trakflow.evaluation.costs import WHOLE

MARK = "took: "

log = logging.getLogger("trakflow")


@contextmanager
def timed(piece: str = WHOLE) -> Iterator[None]:
    """Log how long the block took, unless it failed."""
    began = perf_counter()
    yield
    log_seconds(piece, perf_counter() - began)


def log_seconds(piece: str, seconds: float) -> None:
    """Log how long a piece of the job took; a line each time that it is done."""
    log.info("%s%s", MARK, json.dumps({"piece": piece, "seconds": round(seconds, 6)}))


def read_seconds(path: Path | str) -> dict[str, list[float]]:
    """Return the seconds of each piece in a job's log, one for each time that it was done.

    Raises:
        StoreError: The log is not there or holds no times.
    """
    found: dict[str, list[float]] = defaultdict(list)
    try:
        lines = Path(path).read_text(encoding="utf8").splitlines()
        for line in lines:
            if line.startswith(MARK):
                entry = json.loads(line.removeprefix(MARK))
                found[entry["piece"]].append(float(entry["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read as a log with times: {error}. Delete it and run again.") from error
    if not found:
        raise StoreError(f"{path} says nothing of the seconds that its job took. Delete it and run the same command.")
    return dict(found)
