"""The threads of an engine and their end: one that is in torch's code when Python shuts down aborts the process."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress


class EngineThread(threading.Thread):
    """A daemon thread at `work`, once `set_up` is done on it; what that raises is raised here."""

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
            # They refer to who holds this thread.
            del self._work, self._set_up
            self._ended.set()

    def wait(self, what: str, timeout_s: float | None = None) -> None:
        """Waits for the end; a RuntimeWarning of the caller's caller says if `what` outlasts the wait. After Ctrl-C it
        may be called again, unlike `join`, which CPython 3.11 takes for done then."""
        if self is threading.current_thread():  # where garbage may be collected too
            return
        if self._ended.wait(timeout_s):
            self.join()
        else:
            words = f"{what} is still running after {timeout_s} s; its thread ends with it or the process"
            warnings.warn(words, RuntimeWarning, stacklevel=3)


def end_with(owner: object, close: Callable[[], None]) -> None:
    """Has `close` called when `owner` is dropped or the program ends, whatever Ctrl-C says. It may be called twice, and
    doesn't refer to `owner`. In a forked child it never is called: its threads are the parent's."""
    weakref.finalize(owner, _end, close, os.getpid())


def _end(close: Callable[[], None], process: int) -> None:
    while os.getpid() == process:
        with suppress(KeyboardInterrupt):
            return close()
