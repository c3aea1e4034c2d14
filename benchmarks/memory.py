"""Measures the peak memory of a call, and limits memory, so that a contender that wants too much fails alone.

CUDA: the caching allocator's high-water mark. CPU: the high-water mark of the process's resident memory, reset before
the call, over what was resident then. It counts every byte that is touched, a native kernel's own scratch as well as
tensors, in units of pages. The contender has run before on a small problem, so code and thread stacks are not counted;
free heap is handed back first, so that reused memory is.
"""

import ctypes
import gc
import resource
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures the phases between calls of `mark`; `bytes()` gives the peak of each, and of all, over its start."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.peaks: list[int] = []
        self.held: list[int] = []
        gc.collect()
        if not self.cuda:
            ctypes.CDLL(None).malloc_trim(0)

    def mark(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            self.held.append(torch.cuda.memory_allocated())
            self.peaks.append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            return
        self.held.append(_status_bytes("VmRSS"))
        self.peaks.append(_status_bytes("VmHWM"))
        # Writing 5 resets the high-water mark (proc(5)).
        Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> tuple[list[int], int]:
        phases = [peak - start for start, peak in zip(self.held, self.peaks[1:], strict=False)]
        return phases, max(self.peaks[1:]) - self.held[0]


def limit_memory(share: float = 0.9) -> None:
    """Let this process allocate `share` of the memory that the machine has free; an allocation beyond that fails.

    Without the limit Linux would grant the memory and kill processes once it is touched.
    """
    free = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_status_bytes("VmData") + int(share * free), hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is that of an allocation that failed, on a CPU or a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)


def _status_bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
