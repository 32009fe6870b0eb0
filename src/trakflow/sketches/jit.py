"""How kernels are compiled for the CPU.

A kernel module is imported where its kernel first runs: numba takes a third of a second to import. Kernels release the
interpreter's lock and run on threads of ours, so that no threading layer is chosen for the whole process.
"""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable) -> Any:
    """Compile at the first call, and keep the code on disk for the next process.

    The function should be marked `typing.no_type_check`, or tests would wrap it to check its types.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba may write to no folder at all: every process compiles for itself
        return njit(nogil=True)(function)
