"""Threads for work that releases the interpreter's lock: as many as torch uses, kept between calls."""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def pool() -> ThreadPoolExecutor:
    """Return this process's threads; a forked process has its own."""
    return _pool(torch.get_num_threads(), os.getpid())


def run_parallel(work: Callable[..., None], calls: Iterable[Sequence[Any]]) -> None:
    """Call a kernel several times, on as many threads as torch uses.

    Raises:
        Exception: Whatever the first failing call raised.
    """
    calls = list(calls)
    if torch.get_num_threads() == 1 or len(calls) == 1:
        for arguments in calls:
            work(*arguments)
        return
    for done in [pool().submit(work, *arguments) for arguments in calls]:
        done.result()


def slices(total: int, least: int = 1) -> list[slice]:
    """Cut rows among torch's threads, at least so many each."""
    pieces = max(1, min(torch.get_num_threads(), total // least))
    bounds = [total * piece // pieces for piece in range(pieces + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
