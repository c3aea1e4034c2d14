"""What the videos of a hub and the S_h of all have between them on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowlat.runtime.gpu.caches import Side
from lowlat.runtime.gpu.device import Buffer, Event, Graph, Stream, Work


class SharedStream:
    """The stream of S_h of all, as one of those who use it has it. What is run to be warm, and captured, is so on a
    stream beside it: the hub's thread enqueues on the shared one meanwhile, and a graph must not catch that.

    Args:
        shared: where S_h runs.
        own: where it is captured.

    Attributes:
        preparing: whether what is run is run on the stream of its own.
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
    """A pass on a device: where it reads F_l and writes F_h, and its parts where it is not one of a batch."""

    source: Buffer
    side: Side
    scratch: Sequence[Buffer]
    """Between the parts."""
    parts: Sequence[Callable[[], None]]
    landed: Event
    start: Event | None = None
    end: Event | None = None
