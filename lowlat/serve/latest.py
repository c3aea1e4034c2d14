"""`Latest`: the newest item of a thread, for any number of viewers on the event loop. All that viewers see goes through
one."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Latest(Generic[Item]):
    """Holds one item. A newer item takes its place whether anybody has seen it or not, so a slow viewer builds up no
    queue.

    Args:
        loop: the event loop of those who wait.

    Attributes:
        item: the newest item; None before the first.
        number: how many items there have been.
        ended: whether no more will come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._lock = loop, threading.Lock()
        self._changed = asyncio.Event()
        self._held: tuple[int, Item | None] = (0, None)
        self.ended = False

    @property
    def item(self) -> Item | None:
        return self._held[1]

    @property
    def number(self) -> int:
        return self._held[0]

    def put(self, item: Item) -> None:
        """Replace the item. It may be called from any thread, and never waits."""
        with self._lock:
            self._held = (self._held[0] + 1, item)
        self._tell()

    def end(self) -> None:
        """Wake everybody who waits, since no more items will come. It may be called from any thread."""
        self.ended = True
        self._tell()

    async def after(self, number: int) -> tuple[int, Item] | None:
        """Return the newest item and its number, once that is above ``number``; None at the end."""
        while True:
            held, changed = self._held, self._changed
            if held[0] > number:
                return held
            if self.ended:
                return None
            await changed.wait()

    def _tell(self) -> None:
        # Nobody waits on a loop that is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
