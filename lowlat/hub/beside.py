"""What takes long and labels nothing, such as making memory and capturing graphs: on threads beside the hub's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from lowlat.runtime.ending import EngineThread

Beside = Callable[[Callable[[], None]], Future]
"""Has work done beside the hub's thread; gives its end, with what it raised."""


def at_once(work: Callable[[], None]) -> Future:
    """Does the work on the calling thread: for simulations and tests."""
    done: Future = Future()
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error)
    return done


class Threads:
    """A thread for each piece of work.

    Attributes:
        wake: called when one has ended.
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
