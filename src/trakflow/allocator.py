"""How the C library treats memory that is freed and soon asked for again."""

import ctypes
import sys

# glibc's numbers of the two settings, and the largest values that help.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
TRIM_BYTES, MMAP_BYTES = 1 << 30, 1 << 25


def keep_freed_memory() -> None:
    """Have this process keep what it frees, instead of giving it back and taking it again page by page.

    A sketch's buffers are a few megabytes and live for a millisecond; on Linux the kernel would take as long to hand
    out their pages anew as the transforms take. Where the C library is not glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(TRIM_THRESHOLD, TRIM_BYTES)
        library.mallopt(MMAP_THRESHOLD, MMAP_BYTES)
