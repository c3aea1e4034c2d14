"""Threads that end in time: one that is still in torch's code when Python shuts down would abort the process."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


class EngineThread(threading.Thread):
    """A daemon thread that does `set_up`, then `work`. An error of `set_up` is raised by the constructor."""

    def __init__(self, name: str, work: Callable[[], None], set_up: Callable[[], None] = lambda: None) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._set_up, self._ready, self._ended = work, set_up, Future(), threading.Event()
        self.start()
        self._ready.result()

    def run(self) -> None:
        try:
            self._ready.set_result(self._set_up())
            self._work()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            # They refer to the object that holds this thread, which could not be collected otherwise.
            del self._work, self._set_up
            self._ended.set()

    def wait(self, what: str, timeout_s: float | None = None) -> None:
        """Waits for the thread's end; a RuntimeWarning at the caller's caller names `what` if it is still running after
        `timeout_s` seconds. May be called again after Ctrl-C; CPython 3.11 takes an interrupted `join` for done."""
        if self is threading.current_thread():  # where garbage may be collected too
            return
        if self._ended.wait(timeout_s):
            self.join()
        else:
            words = f"{what} is still running after {timeout_s} s; its thread ends with it or the process"
            warnings.warn(words, RuntimeWarning, stacklevel=3)


def end_with(owner: object, *steps: Callable[[], Any]) -> None:
    """Has `steps` called in turn when `owner` is collected or the program ends, even during Ctrl-C. They must bear a
    second call and must not refer to `owner`. A forked child never calls them, since the threads are the parent's."""
    weakref.finalize(owner, _end, os.getpid(), *steps)


def _end(process: int, *steps: Callable[[], Any]) -> None:
    while os.getpid() == process:
        with suppress(KeyboardInterrupt):
            for step in steps:
                step()
            return
