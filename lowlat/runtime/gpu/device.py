"""The narrow interface to a device that computes beside the host: buffers, streams, events, graphs, a timer.

The pipelined runtime (`lowlat.runtime.gpu.stages`) is written against it, and says which buffers each piece of work
reads and writes. A real device needs no names for that; the fake device of the tests checks them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from lowlat.runtime.result import Span

Size = tuple[int, int]
"""Height and width of a frame, in pixels."""


class Priority(Enum):
    """Which stream's blocks go first if several streams have some ready. Running blocks are never interrupted."""

    HIGH = "high"
    LOW = "low"


@dataclass(eq=False)
class Buffer:
    """Memory that stays where it is: a tensor, or a tuple of tensors that are read and written together."""

    name: str
    value: Any
    host: bool = False
    """Whether it is pinned memory of the host, rather than memory of the device."""


Work = Callable[..., Any]
"""A function of the values of the buffers that it reads, then of those that it writes."""


class Event(Protocol):
    """A mark in a stream's order of work, set by `Stream.record`; recording it again moves it."""

    name: str

    def done(self) -> bool:
        """Whether all work before the last record is complete; True if it was never recorded. Never waits."""

    def wait(self) -> None:
        """Blocks the host until `done`."""

    def ms(self) -> float:
        """The time at which the device reached this timed event, in ms on the device's clock; call it once `done`."""

    def ms_since(self, start: Event) -> float:
        """The time from `start` to this event in ms, finer than the difference of two `ms`; both timed and `done`."""


class Graph(Protocol):
    """Captured work, which one call replays on `stream`: at first the stream that it was captured on."""

    stream: Stream

    def replay(self) -> None: ...


class Stream(Protocol):
    """Work that the device does in order, beside that of other streams. No method waits for the device."""

    name: str

    def run(self, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> None:
        """Enqueues `work(*values read, *values written)`."""

    def copy(self, source: Buffer, target: Buffer) -> None:
        """Enqueues a copy between host and device, or within the device."""

    def wait(self, event: Event) -> None:
        """Has the work that is enqueued from here on start after the event's last record."""

    def record(self, event: Event) -> None:
        """Puts the event behind all that has been enqueued so far."""

    def capture(self, pool: str, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> Graph:
        """Captures what `run` would enqueue. Graphs of one pool share memory, so all of them belong to one stream."""


class Device(Protocol):
    """Makes streams, events and buffers, all of them before the first frame is out."""

    def stream(self, name: str, priority: Priority) -> Stream: ...

    def event(self, name: str, *, timed: bool = False) -> Event: ...

    def buffer(self, name: str, make: Callable[[], Any], *, host: bool = False) -> Buffer:
        """Makes a buffer of what `make` returns.

        Raises:
            MemoryError: there is no room for it.
        """

    def host(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> Any:
        """Runs `work` on the host at once, on host buffers, and returns its result."""

    def synchronize(self) -> None:
        """Blocks the host until the device has nothing left to do. For warm-up only."""

    def now(self) -> float:
        """The present time in ms on the clock of `Event.ms`, as the host sees it."""

    def close(self) -> None:
        """Blocks the host until the device has nothing left to do, and gives back the streams. May be called again."""


Timing = tuple[tuple[str, str, int], Event, Event]
"""A stage being timed: its track, its name and the frame's index; the events at its start and its end."""


class StageTimer:
    """Times stages by events in their streams, and never waits. There are events for `capacity` stages at once; further
    stages go untimed."""

    def __init__(self, device: Device, name: str, capacity: int = 32) -> None:
        self._free = deque(
            (device.event(f"{name} {n} start", timed=True), device.event(f"{name} {n} end", timed=True))
            for n in range(capacity)
        )
        self._pending: deque[Timing] = deque()

    def begin(self, stream: Stream, track: str, stage: str, index: int) -> Timing | None:
        """Starts timing the work that is enqueued on `stream` from here on; None if there is no event left."""
        if not self._free:
            return None
        start, end = self._free.popleft()
        stream.record(start)
        return (track, stage, index), start, end

    def end(self, stream: Stream, timing: Timing | None) -> None:
        """Ends the timing that `begin` started, after the work that has been enqueued since."""
        if timing is not None:
            stream.record(timing[-1])
            self._pending.append(timing)

    def finished(self) -> list[Span]:
        """Returns the stages that have been completed since the last call, in ms on the device's clock."""
        spans, waiting = [], deque()
        for about, start, end in self._pending:
            if end.done():
                start_ms = start.ms()
                spans.append(Span(*about, start_ms, start_ms + end.ms_since(start)))
                self._free.append((start, end))
            else:
                waiting.append((about, start, end))
        self._pending = waiting
        return spans
