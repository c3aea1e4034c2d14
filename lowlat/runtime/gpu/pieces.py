"""The work of one video on a device, in pieces that say which buffers they read and write, run or captured once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lowlat.runtime.gpu.caches import Caches, Side, Slot
from lowlat.runtime.gpu.device import Buffer, Device, Graph, StageTimer, Stream, Work

if TYPE_CHECKING:
    from lowlat.runtime.gpu.programs import NetworkPrograms


class Piece(NamedTuple):
    """One piece of work with its stream and its buffers. A graph is captured of one piece."""

    stream: Stream
    stage: Hashable
    work: Work
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    track: str | None = None
    """The track of the trace that shows it; None if it is not timed."""


class Pieces:
    """Makes the pieces of work on a video's caches. `higher` are the parts of S_h, `select` is the decision, if there
    is one; `lower`, `fast` and `slow` are the streams of S_l, propagation and S_h."""

    def __init__(
        self,
        programs: NetworkPrograms,
        caches: Caches,
        higher: Sequence[Work],
        select: Work | None,
        *,
        lower: Stream,
        fast: Stream,
        slow: Stream,
    ) -> None:
        self._programs, self._caches = programs, caches
        self._parts, self._select = higher, select
        self._lower, self._fast, self._slow = lower, fast, slow

    def lower(self, slot: Slot) -> Piece:
        return Piece(self._lower, "lower", self._programs.lower, (slot.image,), (slot.low,), "S_l")

    def propagate(self, slot: Slot, side: Side) -> Piece:
        reads = (self._caches.base, side.high, slot.low)
        writes = (self._caches.propagated, slot.labels, slot.scores)
        return Piece(self._fast, "propagate", self._programs.propagate, reads, writes, "propagation")

    def select(self, slot: Slot) -> Piece:
        return Piece(self._fast, "select", self._select, (self._caches.kept, slot.low), (slot.value,), "propagation")

    def classify(self, slot: Slot, side: Side) -> Piece:
        return Piece(self._fast, "classify", self._programs.classify, (side.high,), (slot.labels, slot.scores), "S_h")

    def hold(self, slot: Slot) -> Piece:
        writes = (self._caches.kept, self._caches.base, self._caches.path[0])
        return Piece(self._fast, "hold", self._programs.hold, (slot.low,), writes)

    def rebase(self, slot: Slot, place: int) -> Piece:
        writes = (self._caches.base, self._caches.path[place])
        return Piece(self._fast, "rebase", self._programs.rebase, (slot.low,), writes)

    def carry(self, side: Side, place: int) -> Piece:
        """Carries the F_h of S_h from the place before `place` on its path to `place`."""
        path = self._caches.path
        return Piece(self._slow, "carry", self._programs.carry, (path[place - 1], path[place]), (side.high,))

    def keep(self, side: Side) -> Piece:
        return Piece(self._fast, "keep", self._programs.keep, (self._caches.propagated,), (side.high,))

    def higher(self, source: Buffer, side: Side) -> list[Piece]:
        """S_h in parts, from F_l in `source` to F_h on `side`, through the scratch."""
        between = self._caches.scratch
        reads = [(source,), *((source, before) for before in between)]
        return [
            Piece(self._slow, ("higher", part), work, reads[part], (after,))
            for part, (work, after) in enumerate(zip(self._parts, (*between, side.high), strict=True))
        ]

    def all(self, *, fast_track: bool, background: bool, waited: bool) -> Iterator[Piece]:
        """Yields every piece that can occur after the first frame, with every combination of buffers: if frames are
        propagated, if S_h runs in the background, and if a frame after the first waits for S_h."""
        slots, sides = self._caches.slots, self._caches.sides
        for slot in slots:
            yield self.lower(slot)
            if fast_track:
                yield self.hold(slot)
                yield from (self.rebase(slot, place) for place in range(len(self._caches.path)))
            if self._select is not None:
                yield self.select(slot)
        for side in sides:
            for source in (*([self._caches.kept] if background else []), *(slot.low for slot in slots if waited)):
                yield from self.higher(source, side)
            for slot in slots:
                if fast_track:
                    yield self.propagate(slot, side)
                if waited:
                    yield self.classify(slot, side)
            if fast_track:
                yield self.keep(side)
                yield from (self.carry(side, place) for place in range(1, len(self._caches.path)))


class Launcher:
    """Puts pieces on their streams, with `graphs` as captured graphs; with `timed`, those with a track are timed."""

    def __init__(self, device: Device, *, graphs: bool, timed: bool) -> None:
        self._device, self._graphs_wanted = device, graphs
        self._graphs: dict[Piece, Graph] = {}
        self.timer = StageTimer(device, "fast", 32 if timed else 0)

    def warm_up(self, pieces: Iterable[Piece]) -> None:
        """Runs each piece once, and captures it if graphs are wanted; the device is idle afterwards.

        Raises:
            MemoryError: a piece doesn't fit into the device.
        """
        try:
            for piece in dict.fromkeys(pieces):
                stream = piece.stream
                stream.run(piece.work, piece.reads, piece.writes)
                self._device.synchronize()
                if self._graphs_wanted:
                    self._graphs[piece] = stream.capture(stream.name, piece.work, piece.reads, piece.writes)
        except MemoryError:
            self._graphs.clear()
            raise
        self._device.synchronize()

    def forget(self) -> None:
        """Frees all graphs and the memory that they were captured on; the device must be idle."""
        self._graphs.clear()

    def launch(self, piece: Piece, index: int | None = None) -> None:
        """Enqueues a piece, for frame `index`."""
        timing = None
        if piece.track is not None:
            timing = self.timer.begin(piece.stream, piece.track, piece.stage, index)
        graph = self._graphs.get(piece)
        if graph is not None:
            graph.replay()
        else:
            piece.stream.run(piece.work, piece.reads, piece.writes)
        self.timer.end(piece.stream, timing)

    def copy(self, stream: Stream, source: Buffer, target: Buffer, track: str, stage: str, index: int) -> None:
        """Enqueues a copy, for frame `index`."""
        timing = self.timer.begin(stream, track, stage, index)
        stream.copy(source, target)
        self.timer.end(stream, timing)
