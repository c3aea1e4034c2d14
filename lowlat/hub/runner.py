"""`Runner`: the hub's thread. It takes the loop's turns, and between them does what other threads ask for."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lowlat.hub.loop import Loop
from lowlat.runtime.ending import EngineThread


class Closed(RuntimeError):
    """Raised where the hub is asked for something and is closed."""


class Runner:
    """A thread that takes a loop's turns, and sleeps while there is nothing to do.

    Args:
        loop: takes turns.
        set_up: a function that the thread calls first.
    """

    def __init__(self, loop: Loop, set_up: Callable[[], None]) -> None:
        self._loop, self._process = loop, os.getpid()
        self._changed = threading.Condition()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._woken = self._closed = False
        self.broken: BaseException | None = None
        self._thread = EngineThread("hub", self._work, set_up)

    def wake(self) -> None:
        """Takes note that there is something to do, such as a frame that has come."""
        self.check_process()
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def check_process(self) -> None:
        """Raises `Closed` in a forked process, which has no thread of the hub."""
        if not self.here:
            raise Closed("Hub: expected the process that made the hub, got a fork of it; make one in the child")

    @property
    def here(self) -> bool:
        """Whether this is the process that made the hub. In a fork, locks that the hub's threads held stay locked for
        ever."""
        return os.getpid() == self._process

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls ``function`` on the hub's thread, between two things that it does, and returns its result or raises its
        error.

        Raises:
            Closed: the hub is closed.
        """
        self.check_process()
        result: Future = Future()
        with self._changed:
            if self._closed:
                raise Closed("Hub: expected an open hub, got a closed one; make another") from self.broken
            self._calls.append((function, result))
            self._woken = True
            self._changed.notify_all()
        return result.result()

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends every video and the thread, after its present work. May be called again; does nothing in a fork."""
        if not self.here:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.wait("Hub.close: a frame or a part of S_h", timeout_s)

    def _work(self) -> None:
        try:
            while self._go_on():
                wait = self._loop.turn()
                if wait > 0:
                    with self._changed:
                        limit = None if wait == math.inf else wait / 1e3
                        self._changed.wait_for(lambda: self._woken or self._closed, limit)
        except BaseException as error:
            self.broken = error
            raise
        finally:
            with self._changed:
                self._closed = True
            try:
                self._loop.close()
            finally:
                # A thread that still asks must not wait for ever.
                for _, result in self._calls:
                    result.set_exception(Closed("Hub: expected an open hub, got one that is closing; make another"))

    def _go_on(self) -> bool:
        """Does what other threads have asked for; returns False once the thread is to end."""
        while True:
            with self._changed:
                self._woken = False
                if self._closed or not self._calls:
                    return not self._closed
                function, result = self._calls.popleft()
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)
