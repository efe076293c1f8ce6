"""Memory that a tensor gives back is kept for the next one, instead of being fetched from the system page by page."""

import ctypes
import os

# Of malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# What is freed at the end of the heap is kept up to the first; a larger block than the second is fetched on its own.
_KEPT_BYTES, _OWN_BYTES = 2**31 - 1, 2**30


def keep_freed_memory() -> bool:
    """Let this process keep memory that was freed, for tensors to come.

    By default glibc returns a block of some megabytes to the system as soon as it is freed, and the next tensor of that
    size costs a page fault for every 4 KB, which a training step on a CPU feels. More memory stays with the process, up
    to what it needed at its peak. Settings by `MALLOC_…` or `GLIBC_TUNABLES` in the environment are left as they are.

    Returns:
        Whether the C library took both settings; others than glibc have none.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return all([mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES), mallopt(_M_MMAP_THRESHOLD, _OWN_BYTES)])
