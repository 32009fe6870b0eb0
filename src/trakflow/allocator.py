"""How memory that is freed and soon asked for again is handed out."""

import ctypes
import os
import sys

# glibc's numbers of the two settings, and the largest values that help.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
TRIM_BYTES, MMAP_BYTES = 1 << 30, 1 << 25
# torch reads it when it first allocates on the CPU.
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def keep_freed_memory() -> None:
    """Have this process keep what it frees, and take what is too large to be kept in pages of 2 MiB.

    A sketch's buffers are a few megabytes and live for a millisecond; on Linux the kernel would take as long to hand
    out their pages anew as the transforms take. Where the C library is not glibc they are not kept. Gradients of a
    batch by all parameters may be gigabytes, which glibc always gives back; torch then asks for huge pages, unless the
    environment already says whether it should (``THP_MEM_ALLOC_ENABLE``). Call this before the first tensor is made.
    """
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault(HUGE_PAGES, "1")
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(TRIM_THRESHOLD, TRIM_BYTES)
        library.mallopt(MMAP_THRESHOLD, MMAP_BYTES)
