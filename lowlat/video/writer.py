"""Drawing and encoding off the path of the frames: one background thread, one bounded queue."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WAITING = 8
"""Items that may wait; a full queue holds up whoever puts the next."""
NICENESS = 5


class BackgroundWriter:
    """Calls ``write(*item)`` for every item put, in order, on a thread that gives way to others.

    The first exception of ``write`` ends the writing; it is raised by the next ``put`` or by ``close``, once.
    """

    def __init__(self, write: Callable[..., None]):
        self._write = write
        self._items: queue.Queue[tuple | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        # In place of a join, which takes the thread for ended once Ctrl-C has come between (CPython 3.11).
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def put(self, *item: Any) -> None:
        """Leave an item to be written; waits while the queue is full."""
        self._raise()
        self._items.put(item)

    def close(self) -> None:
        """Write what is waiting, then end the thread. May be called again.

        Ctrl-C on the way is raised at the end: nothing is written any more when this returns.
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
