"""The CPU runtime under `priority`: S_h runs on a thread beside the fast track. Also how many threads there are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from lowlat.runtime.ending import EngineThread
from lowlat.runtime.protocols import Clock, Job, Outcome
from lowlat.runtime.words import counted

NICENESS = 5
"""Added to the niceness of the S_h thread, so that another process takes a core from S_h, not from the fast track."""
_OMP_PAUSE_SOFT = 1  # omp.h: omp_pause_soft


def let_go_of_threads() -> None:
    """Ends the OpenMP threads that wait for the calling thread's next parallel loop, if the library offers that."""
    if sys.platform == "linux":
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
        if pause is not None:
            pause(_OMP_PAUSE_SOFT)


if hasattr(os, "register_at_fork"):
    # The child's first parallel loop would wait for ever for threads that are the parent's alone.
    os.register_at_fork(before=let_go_of_threads)


def set_own_threads(count: int) -> None:
    """Sets how many threads torch uses for the calling thread alone. Call it once, before that thread computes."""
    # torch gives a thread the process's count when the thread first asks for its own, and would undo ours then.
    torch.get_num_threads()
    torch.set_num_threads(count)


def check_cores(what: str, cores: int, mend: str, most: float = float("inf")) -> None:
    """Raises ValueError, from ``what`` to ``mend``, unless ``cores`` is a whole number from 1 to ``most``."""
    if not isinstance(cores, Integral) or cores is True or cores < 1:
        raise ValueError(f"{what}: expected a whole number of at least 1 core, got {cores!r}; {mend}")
    if cores > most:
        raise ValueError(f"{what}: expected at most the {counted(most, 'core')} of this machine, got {cores}; {mend}")


@dataclass(frozen=True)
class CoreSplit:
    """How many threads the fast track has, and how many S_h.

    Raises:
        ValueError: one is not a whole number of at least 1.
    """

    fast: int
    slow: int

    def __post_init__(self) -> None:
        for side in ("fast", "slow"):
            check_cores(f"CoreSplit.{side}", getattr(self, side), "split_cores() gives a split of those at hand")


def cores_at_hand() -> int:
    """How many cores this process may use, by its affinity mask and its CPU quota (cgroup v2) if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    return max(cores, 1)


def split_cores(cores: int | None = None) -> CoreSplit:
    """Splits `cores`, by default those at hand, in halves of at least one. The fast track, whose time is the latency,
    gets an odd one. Raises ValueError unless `cores` is a whole number of at least 1."""
    cores = cores_at_hand() if cores is None else cores
    check_cores("split_cores", cores, "leave it out to use those at hand")
    return CoreSplit(fast=cores - cores // 2, slow=max(cores // 2, 1))


_of_thread = threading.local()
"""Its `workers` are the open ones that the calling thread has made, the oldest first."""


class ThreadWorker:
    """Runs S_h on one background thread; `submit` and `poll` never wait for it.

    Make, use and close it on the thread that runs the fast track. With torch's OpenMP backend each thread has its own
    count of threads: making a worker sets the caller's to `cores.fast`, the background thread's to `cores.slow`. When a
    worker is closed the caller gets the count of the newest worker still open, after the last one its original count.

    Args:
        higher: S_h, called on the background thread: F_l -> F_h, or a generator of its parts, of which none is begun
            once the worker is closed. Gradient modes are per thread, so it has to set its own.
        clock: the engine's clock.
        cores: threads for both sides, by default `split_cores()`.
    """

    def __init__(self, higher: Callable[[Any], Any], clock: Clock, *, cores: CoreSplit | None = None) -> None:
        self._higher, self._clock = higher, clock
        self.cores = cores if cores is not None else split_cores()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._job: Job | None = None
        self._closed, self._owner = False, threading.get_ident()
        self._thread = EngineThread("S_h", self._work, self._set_up)
        self._open = _of_thread.__dict__.setdefault("workers", [])
        self._threads_before = self._open[0]._threads_before if self._open else torch.get_num_threads()
        self._open.append(self)
        torch.set_num_threads(self.cores.fast)

    def submit(self, job: Job) -> None:
        if self._job is not None or self._closed:
            state = "a closed one" if self._closed else "one with a job in flight"
            raise RuntimeError(f"ThreadWorker.submit: expected an idle worker, got {state}; poll until the job lands")
        self._job = job
        self._jobs.put(job)

    def poll(self, index: int) -> Outcome | None:
        with contextlib.suppress(queue.Empty):
            while outcome := self._outcomes.get_nowait():
                # An outcome of another job is of one that was forgotten while it ran.
                if outcome.job is self._job:
                    self._job = None
                    return outcome
        return None

    def forget(self) -> None:
        self._job = None

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends the thread after the part of S_h under way, and restores the caller's thread count. A RuntimeWarning
        says if the thread, a daemon, is still running after `timeout_s` seconds."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._open.remove(self)
            if threading.get_ident() == self._owner:
                torch.set_num_threads(self._open[-1].cores.fast if self._open else self._threads_before)
        self._thread.wait("ThreadWorker.close: S_h", timeout_s)

    def _set_up(self) -> None:
        # On Linux each thread has a niceness, which those that it starts take over.
        if sys.platform == "linux":
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        set_own_threads(self.cores.slow)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            # A job that was forgotten before its turn never runs.
            if job is self._job:
                self._outcomes.put(run_job(self._through, job, self._clock))
            # A reference kept while waiting would keep F_l of a past frame in memory.
            del job

    def _through(self, low: Any) -> Any:
        """Runs S_h to its end, or to the end of the part under way once the worker is closed: nobody wants F_h then."""
        high = self._higher(low)
        while isinstance(high, Generator) and not self._closed:
            try:
                next(high)
            except StopIteration as last:
                return last.value
        return high


def run_job(higher: Callable[[Any], Any], job: Job, clock: Clock) -> Outcome:
    """Runs a job on the calling thread; an error that it raises becomes its outcome."""
    high, error, start_ms = None, None, clock.now()
    try:
        high = higher(job.low)
    except BaseException as raised:
        error = raised
    return Outcome(job, high, error, start_ms, clock.now())
