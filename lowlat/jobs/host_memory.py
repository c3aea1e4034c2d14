"""The host's memory in runs whose latency counts. Free of torch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

# These numbers are from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MOST = 2**31 - 1
_STATM = Path("/proc/self/statm")


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next allocation, from here to the end of the process.

    Left to itself glibc returns large blocks to the system now and then, and the next frame's memory is mapped and
    zeroed page by page, in thousands of page faults. Threads that start from here on share one heap, since the heap of
    a single thread is returned whatever the C library is told.

    Returns:
        Whether it does; False if the C library is not glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_ARENA_MAX, 1))
    return mallopt is not None and all(mallopt(name, value) for name, value in settings)


def resident_mb() -> float:
    """Return the memory of this process in RAM, in MiB; on systems other than Linux its peak."""
    import resource

    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
