"""`BackgroundWriter` draws and encodes on a thread of its own, so that no frame's latency contains it."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WAITING = 8
"""How many items may wait to be written; `put` waits while there are so many."""
NICENESS = 5
"""Added to the niceness of the writing thread, so that threads that label frames come first."""


class BackgroundWriter:
    """Calls ``write(*item)`` for every item put, in order, on a thread of lower priority.

    After the first exception of ``write`` nothing more is written; the next ``put`` or ``close`` raises it, once.
    """

    def __init__(self, write: Callable[..., None]):
        self._write = write
        self._items: queue.Queue[tuple | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        # Used in place of `join`, which CPython 3.11 takes for done once Ctrl-C has interrupted it.
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def put(self, *item: Any) -> None:
        """Hand over an item to be written; wait while `WAITING` items wait already."""
        self._raise()
        self._items.put(item)

    def close(self) -> None:
        """Write what is waiting, then end the thread. May be called again.

        Ctrl-C meanwhile is raised at the end, so that nothing is being written when this returns or raises.
        """
        interrupt = None
        while not self._ended.is_set():
            try:
                self._items.put(None)
                self._ended.wait()
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        if sys.platform == "linux":
            # On Linux every thread has a niceness of its own.
            with suppress(OSError):
                thread = threading.get_native_id()
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        failed = False
        while (item := self._items.get()) is not None:
            if failed:
                continue
            try:
                self._write(*item)
            except BaseException as error:
                self._error, failed = error, True
        self._ended.set()
