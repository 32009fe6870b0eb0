"""Measuring, for every benchmark: two calls timed in turn, their peak memory, and where it was measured."""

import ctypes
import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trakflow.machine import processor

# Of one sample: a shorter call is repeated within it, so that the jitter of timer and scheduler is small.
SAMPLE_SECONDS = 0.05
# A first call that takes longer counts: what it does once and never again is nothing to it.
LONG_CALL_SECONDS = 20.0

Call = Callable[[], Any]


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range, or NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


@dataclass(frozen=True)
class Observed:
    """One call: its seconds, by how many MiB memory rose at most, and what it returned."""

    seconds: float
    peak_mib: float
    result: Any


@dataclass
class Alternated:
    """A call and its floor, timed in turn: pair i is `seconds[i]` and `floor_seconds[i]`.

    Attributes:
        peak_mib: By how many MiB memory rises at most during the call.
        floor_peak_mib: The same of the floor.
        result: What the first call returned.
        seconds: Of the call, one entry a pair.
        floor_seconds: Of the floor.
    """

    peak_mib: float
    floor_peak_mib: float
    result: Any
    seconds: list[float] = field(default_factory=list)
    floor_seconds: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The call's seconds in units of the floor's, one entry a pair."""
        return [own / floor for own, floor in zip(self.seconds, self.floor_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def alternate(call: Call, floor: Call, device: str, repeats: int, budget: float) -> Alternated:
    """Time a call and its floor in turn, changing which is first.

    Both are called before, to warm up; a call of more than `LONG_CALL_SECONDS` is taken as measured then.

    Args:
        call: What is measured.
        floor: What it is compared with.
        device: Waited for before a clock is read.
        repeats: Pairs wanted.
        budget: Seconds after which no further pair begins; there is at least one.
    """
    floor()
    first, first_floor = observe(call, device), observe(floor, device)
    found = Alternated(first.peak_mib, first_floor.peak_mib, first.result)
    times = floor_times = 1
    if first.seconds > LONG_CALL_SECONDS:
        found.seconds.append(first.seconds)
        found.floor_seconds.append(first_floor.seconds)
    else:
        # The first call also reads in code, which is not its memory.
        second = observe(call, device)
        found.peak_mib, times = second.peak_mib, math.ceil(SAMPLE_SECONDS / second.seconds)
    floor_times = math.ceil(SAMPLE_SECONDS / first_floor.seconds)
    began = time.perf_counter() - sum(found.seconds)
    while len(found.seconds) < repeats and (not found.seconds or time.perf_counter() - began < budget):
        if len(found.seconds) % 2:
            found.floor_seconds.append(timed(floor, device, floor_times))
            found.seconds.append(timed(call, device, times))
        else:
            found.seconds.append(timed(call, device, times))
            found.floor_seconds.append(timed(floor, device, floor_times))
    return found


def timed(call: Call, device: str, times: int = 1) -> float:
    """Return the seconds of one call, averaged over `times` calls in a row."""
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        call()
    _synchronize(device)
    return (time.perf_counter() - began) / times


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def observe(call: Call, device: str) -> Observed:
    """Call once and note the seconds and the peak of memory, over what was in use before.

    On a CPU memory is the resident set, whose peak only Linux can reset: elsewhere it is NaN. On a GPU it is what torch
    has allocated.
    """
    before = memory_mib(device)
    _reset_peak(device)
    began = time.perf_counter()
    result = call()
    _synchronize(device)
    seconds = time.perf_counter() - began
    return Observed(seconds, _peak_mib(device) - before, result)


def memory_mib(device: str) -> float:
    """Return the memory in use, after what can be freed is; NaN where it cannot be measured."""
    gc.collect()
    if torch.device(device).type == "cuda":
        _synchronize(device)
        return torch.cuda.memory_allocated(device) / 2**20
    if sys.platform != "linux":
        return math.nan
    # Memory that was freed but kept by the allocator would be taken again without a rise.
    ctypes.CDLL(None).malloc_trim(0)
    return _kib("/proc/self/status", "VmRSS") / 1024


def _reset_peak(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: str) -> float:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _kib("/proc/self/status", "VmHWM") / 1024 if sys.platform == "linux" else math.nan


def _kib(file: str, key: str) -> int:
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{file} has no {key}, so memory cannot be measured on this kernel.")


def available_gib(device: str) -> float:
    """Return how much memory a process could take now, or infinity where that is not known."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    return _kib("/proc/meminfo", "MemAvailable") / 2**20 if sys.platform == "linux" else math.inf


def machine(device: str) -> str:
    """Describe the hardware: processor, cores and memory, or the GPU; no host name."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    gib = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return f"{processor()}, {os.cpu_count()} cores, {gib} GiB, {platform.system()}"


def versions(*packages: str) -> str:
    """Name the versions of Python and of packages, for example ``python 3.11.7, torch 2.13.0``."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
