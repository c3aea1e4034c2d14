"""Runs the tasks of a batch, in processes of this machine or as tasks of a Ray cluster. If a worker dies, no other
worker does, and its task is begun again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

RETRIES = 2
"""How often a task is begun again whose worker has died."""
OBJECT_STORE = 100 << 20
"""Bytes of shared memory of a Ray on this machine: reports go through it, frames do not."""
ANSWER_S = 5.0
"""Seconds within which a cluster must answer."""

Of = TypeVar("Of")


@dataclass(frozen=True)
class Failed:
    """What became of a task that has no result."""

    error: str


_DIED = "batch: expected a worker that lives, got {} that died over it, {} times; is there memory for so many workers?"


def in_processes(
    work: Callable[[Of], Any], tasks: Sequence[Of], workers: int, threads: int
) -> Iterator[tuple[Of, Any]]:
    """Yield each task with the result of ``work``, in the order in which they are done. When it is closed, it ends the
    processes at once.

    Args:
        work: a function of a module, which must not raise.
        tasks: what ``work`` is called with.
        workers: how many processes.
        threads: how many threads each has.
    """
    waiting = deque((task, 1) for task in tasks)
    processes: list[_Process] = []
    try:
        while waiting or any(process.doing for process in processes):
            idle = [process for process in processes if process.doing is None]
            while waiting and (idle or len(processes) < workers):
                if not idle:
                    processes.append(_Process(work, threads))
                    idle.append(processes[-1])
                idle.pop().begin(waiting.popleft())
            busy = {process.pipe: process for process in processes if process.doing}
            for pipe in wait(list(busy)):
                task, tries = busy[pipe].doing
                busy[pipe].doing = None
                try:
                    outcome = pipe.recv()
                except (EOFError, OSError):
                    processes.remove(busy[pipe])
                    busy[pipe].end()
                    if tries <= RETRIES:
                        waiting.appendleft((task, tries + 1))
                        continue
                    outcome = Failed(_DIED.format("a process", tries))
                yield task, outcome
    finally:
        for process in processes:
            process.end()


class _Process:
    """A process that does one task after another; `doing` is its present one."""

    def __init__(self, work: Callable[[Any], Any], threads: int) -> None:
        # It is not forked, because this process has threads.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, work, threads), daemon=True)
        self.doing: Any = None
        # Only this process answers Ctrl-C; those that it starts inherit that the signal is held back.
        with _held_back(signal.SIGINT):
            self._process.start()
        far.close()

    def begin(self, doing: tuple[Any, int]) -> None:
        self.doing = doing
        # A process that has died is noticed when it is waited for.
        with suppress(OSError):
            self.pipe.send(doing[0])

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, work: Callable[[Any], Any], threads: int) -> None:
    """What a process does, from its start to its end."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(work(pipe.recv()))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _held_back(number: int) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def on_ray(
    work: Callable[[Of], Any], tasks: Sequence[Of], workers: int | None, threads: int, *, address: str, gpus: int = 0
) -> Iterator[tuple[Of, Any]]:
    """Do the same with tasks of Ray, which begins a task again if its worker has died. When it is closed, it ends them
    at once.

    Args:
        workers: the most tasks that are given to Ray at once; None for as many as run on the cluster as it is.
        threads: how many cores each asks for.
        address: as in :func:`connected`.
        gpus: how many GPUs each asks for.
    """
    with connected(address, cores=None if workers is None else workers * threads):
        import ray

        if workers is None:
            there = ray.cluster_resources()
            workers = max(1, int(there.get("GPU", 0) // gpus if gpus else there.get("CPU", 0) // threads))
        options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": RETRIES}
        remote = ray.remote(**options)(work)
        waiting, under_way = deque(tasks), {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < workers:
                    task = waiting.popleft()
                    under_way[remote.remote(task)] = task
                (done,), _ = ray.wait(list(under_way))
                task = under_way.pop(done)
                try:
                    outcome = ray.get(done)
                except ray.exceptions.WorkerCrashedError:
                    outcome = Failed(_DIED.format("one of Ray", RETRIES + 1))
                except ray.exceptions.RayError as error:
                    outcome = Failed(" ".join(str(error).split()))
                yield task, outcome
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


@contextmanager
def connected(address: str, *, cores: int | None = None) -> Iterator[None]:
    """Be part of a Ray cluster during the block.

    Args:
        address: as `ray.init` takes it, such as "auto" on one of the cluster's machines; "local" starts a cluster of
            this machine, which ends with the block.
        cores: how many cores a cluster that is started has.

    Raises:
        ConnectionError: there is no such cluster.
    """
    # Ray would report each start to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    shows_token = address != "local" and "RAY_AUTH_MODE" not in os.environ and _has_token()
    if shows_token:
        # A cluster that was started with a token asks for it; without this setting Ray would not send it.
        os.environ["RAY_AUTH_MODE"] = "token"
    import ray

    own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    options = own if address == "local" else {}
    before = signal.getsignal(signal.SIGTERM)
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if port.isdecimal():
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
        ray.init(address, log_to_driver=False, logging_level="error", **options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        words = " ".join(str(error).split())
        raise ConnectionError(
            f"ray: expected a cluster at {address!r}, got none: {words}; ray start --head starts one"
        ) from error
    finally:
        if shows_token:
            del os.environ["RAY_AUTH_MODE"]
    try:
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler of SIGTERM ends the process at once.
            signal.signal(signal.SIGTERM, before)
        yield
    finally:
        ray.shutdown()


def _has_token() -> bool:
    """Whether Ray finds a token for its clusters, by the rules in its documentation."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()
