"""Threads beside the hub's, for work that takes long and labels nothing, such as making memory and capturing graphs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from lowlat.runtime.ending import EngineThread

Beside = Callable[[Callable[[], None]], Future]
"""Takes a function, has it run beside the hub's thread, and returns the future of its end, which has its error if
any."""


def at_once(work: Callable[[], None]) -> Future:
    """Does the work on the calling thread, for simulations and tests."""
    done: Future = Future()
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error)
    return done


class Threads:
    """Does each piece of work on a thread of its own.

    Attributes:
        wake: a function that is called when one has ended.
    """

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None

    def __call__(self, work: Callable[[], None]) -> Future:
        done: Future = Future()

        def run() -> None:
            error = at_once(work).exception()
            done.set_result(None) if error is None else done.set_exception(error)
            self.wake()

        EngineThread("made beside a hub", run)
        return done
