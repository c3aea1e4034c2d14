"""What the videos of a hub on a GPU, and the machine that runs S_h for all of them, hand each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowlat.runtime.gpu.caches import Side
from lowlat.runtime.gpu.device import Buffer, Event, Graph, Stream, Work


class SharedStream:
    """The stream on which S_h of all videos runs, as one of its users sees it. Warm-up and capture run on a stream
    beside it, because the hub's thread enqueues on the shared stream meanwhile, and a graph must not catch that.

    Args:
        shared: the stream that S_h runs on.
        own: the stream that it is captured on.

    Attributes:
        preparing: whether `run` goes to the stream of its own.
    """

    def __init__(self, shared: Stream, own: Stream) -> None:
        self.name, self._shared, self._own, self.preparing = own.name, shared, own, False
        self.copy, self.wait, self.record = shared.copy, shared.wait, shared.record

    def run(self, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> None:
        (self._own if self.preparing else self._shared).run(work, reads, writes)

    def capture(self, pool: str, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> Graph:
        graph = self._own.capture(pool, work, reads, writes)
        graph.stream = self._shared
        return graph


@dataclass(eq=False)
class Asked:
    """A pass of S_h on a device: where it reads F_l and writes F_h, and its parts for when it doesn't run in a
    batch."""

    source: Buffer
    side: Side
    scratch: Sequence[Buffer]
    """Between the parts."""
    parts: Sequence[Callable[[], None]]
    landed: Event
    start: Event | None = None
    end: Event | None = None
