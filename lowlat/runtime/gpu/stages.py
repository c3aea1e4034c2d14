"""`GpuStages`: S_l, propagation and S_h on streams of their own, held together by events. Free of torch.

This file says what is enqueued on which stream, and what waits for what (docs/live.md has the table). The tests' fake
device checks its rules: a buffer is read after the event behind its writer and written after the events behind its
readers, and nothing is allocated once the first frame is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lowlat.runtime.gpu.caches import Caches, Side, Slot
from lowlat.runtime.gpu.device import Device, Event, Priority
from lowlat.runtime.gpu.isolation import Turns
from lowlat.runtime.gpu.pieces import Launcher, Pieces
from lowlat.runtime.protocols import Job, KeyFrame
from lowlat.runtime.result import Span
from lowlat.schedule import Decision, Mode, OnCut, Schedule, Signal

if TYPE_CHECKING:
    from lowlat.runtime.gpu.programs import NetworkPrograms


@dataclass(frozen=True, eq=False)
class FrameLow:
    """A frame under way, with its F_l in a slot."""

    slot: Slot
    serial: int
    index: int


@dataclass(frozen=True, eq=False)
class FrameHigh:
    """F_h on a side of the cache, which was carried `steps` steps before it landed; a propagated F_h has no side."""

    side: Side | None
    steps: int = 0


class GpuStages:
    """`Pipelined` stages of one video on a device, which is also the clock.

    Args:
        device: makes the streams, events and buffers.
        programs: the network's stages.
        schedule: says which stages will occur, so that all of them are run before the first frame is out.
        graphs: whether each stage is captured once and replayed.
        turns: launches S_h, in as many parts as its `segments` says.
        timed: whether stages are timed on the device.
    """

    def __init__(
        self,
        device: Device,
        programs: NetworkPrograms,
        schedule: Schedule,
        *,
        graphs: bool = False,
        turns: Turns | None = None,
        timed: bool = True,
    ) -> None:
        policy = schedule.policy
        self._device, self._programs = device, programs
        self._critical, self._blocking = schedule.decision is Decision.CRITICAL, schedule.mode is Mode.BLOCKING
        self._steps = 0 if self._blocking or schedule.rebase is None else schedule.steps
        self._waited = self._blocking or schedule.on_cut is OnCut.BLOCK
        # If every frame waits for S_h, nothing of one is kept for the next.
        self._fast_track = schedule.needs_fast_track
        self.turns = turns if turns is not None else Turns()
        self._upload = device.stream("upload", Priority.HIGH)
        self._lower = device.stream("S_l", Priority.HIGH)
        self._fast = device.stream("propagation", Priority.HIGH)
        self._fetch = device.stream("fetch", Priority.HIGH)
        self.slow = device.stream("S_h", Priority.LOW)
        self._launcher = Launcher(device, graphs=graphs, timed=timed)
        self._higher = programs.higher(self.turns.segments)
        self._select = programs.select(policy.signal) if policy.signal is not None else None
        self.caches: Caches | None = None  # there from the first frame on
        self._pieces: Pieces | None = None
        self._begun = 0
        # `_active` is the side that propagation reads, `_kept` the key frame whose F_l is kept, `_asked` the decisions
        # on their way to the host, `_value` the last one that has come.
        self._active: Side | None = None
        self._kept: FrameLow | None = None
        self._asked: list[tuple[FrameLow, FrameLow]] = []
        self._value: tuple[FrameLow, float] | None = None

    def lower(self, frame: Any) -> FrameLow:
        return self.begin(frame, self._begun)

    def begin(self, frame: Any, index: int) -> FrameLow:
        """Uploads frame `index` and runs S_l on it. The first frame has the memory made; so does a frame of another
        size, which may come while no key frame is held: at the start and after a restart.

        Raises:
            ValueError: not a frame, or a frame of another size than the key frame's.
            RuntimeError: the memory for that size doesn't fit into the device.
        """
        size = self._programs.size_of(frame)
        if self.caches is None or (size != self.caches.size and self._kept is None):
            self._prepare(size)
        elif size != self.caches.size:
            (height, width), (h, w) = self.caches.size, size
            raise ValueError(
                f"GpuStages.begin: expected a frame of {width}x{height} as before, got {w}x{h}; scale frames to "
                "one size, or restart for the new one"
            )
        slot = self.caches.slots[self._begun % 2]
        low = FrameLow(slot, self._begun, index)
        slot.serial, self._begun = low.serial, self._begun + 1
        self.turns.frame_begun(low.serial)
        # The slot's last upload is complete unless its frame was abandoned; then the host waits for it here.
        if not slot.uploaded.done():
            slot.uploaded.wait()
        self._device.host(self._programs.load(frame), writes=(slot.frame,))
        self._upload.wait(slot.lowered)
        self._launcher.copy(self._upload, slot.frame, slot.image, "S_l", "upload", index)
        self._upload.record(slot.uploaded)
        self._lower.wait(slot.uploaded)
        self._lower.wait(slot.free)
        self._launcher.launch(self._pieces.lower(slot), index)
        self._lower.record(slot.lowered)
        return low

    def propagate(self, key: KeyFrame, low: FrameLow, scores: str = "") -> tuple[Slot, FrameHigh]:
        """Enqueues the fast track of a frame, the copy of its labels to the host and, if deferred, its decision."""
        if key.low is not self._kept:
            raise RuntimeError(f"GpuStages: expected the cached key frame, got frame {key.index}; restart the engine")
        slot, side = self._slot(low), self._active
        self._fast.wait(slot.lowered)
        self._fast.wait(slot.fetched)
        self._launcher.launch(self._pieces.propagate(slot, side), low.index)
        self._fast.record(side.read)
        self._hand_out(slot, low, scores)
        if self._select is not None and not self._critical:
            self._ask(low)
        self._fast.record(slot.free)
        return slot, FrameHigh(None)

    def higher(self, low: FrameLow) -> FrameHigh:
        """Enqueues S_h of a frame that waits for it."""
        slot, side = self._slot(low), self._idle_side()
        # Parts of a pass that was given up must not get between the parts of this one.
        self.turns.cancel()
        self.slow.wait(slot.lowered)
        # Frames that read this side may have been abandoned before anything waited for them.
        self.slow.wait(side.read)
        try:
            timing = self._launcher.timer.begin(self.slow, "S_h", "higher", low.index)
            for piece in self._pieces.higher(slot.low, side):
                self._launcher.launch(piece)
            self._launcher.timer.end(self.slow, timing)
        finally:
            self.slow.record(self.caches.landed)
            # If S_h fails half-way, propagation must still come after what was enqueued of it.
            self._fast.wait(self.caches.landed)
        return FrameHigh(side)

    def classify(self, high: FrameHigh, scores: str = "") -> Slot:
        """Enqueues the labels of the frame that is kept, from its own F_h."""
        low = self._kept
        slot = self._slot(low)
        self._fast.wait(slot.fetched)
        self._launcher.launch(self._pieces.classify(slot, high.side), low.index)
        self._fast.record(high.side.read)
        self._hand_out(slot, low, scores)
        return slot

    def hold(self, key: KeyFrame) -> None:
        """Keeps a key frame: its F_l, and its F_h if that was propagated. If its F_l is kept already, either its F_h
        has landed and is used from here on, or it has a later base: then this keeps what propagation needs of the base,
        and has the F_h of a pass under way carried there too."""
        rebased = key.low is self._kept
        if rebased and key.high.side is not None:
            self._active = key.high.side
            return
        slot, caches = self._slot(key.base), self.caches
        place = len(key.path) if rebased and key.path and key.path[-1] is key.base else 0
        if not place:
            # A pass that failed half-way, or that nobody wants any more, may still read what is kept.
            self._fast.wait(caches.landed)
        if self._fast_track:
            self._launcher.launch(self._pieces.rebase(slot, place) if rebased else self._pieces.hold(slot))
        if key.high.side is None:
            self._launcher.launch(self._pieces.keep(self._active))
            self._fast.record(self._active.read)
        else:
            self._active = key.high.side
        self._fast.record(slot.free)
        self._fast.record(caches.held)
        self._kept = key.low
        if place:
            self.slow.wait(caches.held)
            carry = partial(self._launcher.launch, self._pieces.carry(self._idle_side(), place))
            self.turns.extend(carry, self.slow, caches.landed)

    def measure(self, key: KeyFrame, low: FrameLow, signal: Signal) -> float:
        """Returns the decision's value: of this frame, waited for, if the decision is critical. If it is deferred, the
        newest value against this key frame that has reached the host, this frame's or the one's before; 0 at first."""
        if self._critical:
            self._fast.wait(self._slot(low).lowered)
            self._ask(low)
            low.slot.decided.wait()
        while self._asked and self._asked[0][1].slot.decided.done():
            kept, asked = self._asked.pop(0)
            value = self._device.host(self._programs.number, reads=(asked.slot.value_out,))
            self._value = (kept, float(value))
        return self._value[1] if self._value is not None and self._value[0] is key.low else 0.0

    def wait(self, labels: Slot) -> Any:
        labels.fetched.wait()
        result = self._device.host(self._programs.labels, reads=(labels.labels_out,))
        self.turns.frame_done(labels.serial)
        if not labels.asked:
            return result
        scores = self._programs.scores(self.caches.size, labels.asked)
        return result, self._device.host(scores, reads=(labels.scores_out,))

    def abandon(self) -> None:
        self.turns.frame_done(self._begun - 1)

    def restart(self) -> None:
        self.abandon()
        self._kept = self._active = self._value = None
        self._asked = []

    def spans(self) -> list[Span]:
        return self._launcher.timer.finished()

    def launch_higher(self, job: Job, start: Event, end: Event) -> Side:
        """Has a pass of S_h launched on the F_l that is kept, timed by two events; returns the side that it writes."""
        if job.low is not self._kept:
            raise RuntimeError(
                "GpuWorker.submit: expected a job on the cached key frame, got one on another frame; "
                "promote a frame before S_h is launched on it"
            )
        side, caches = self._idle_side(), self.caches
        pieces = self._pieces.higher(caches.kept, side)
        self.slow.wait(caches.held)

        def launch(part: int) -> None:
            if part == 0:
                self.slow.record(start)
            self._launcher.launch(pieces[part])
            if part == len(pieces) - 1:
                self.slow.record(end)

        self.turns.submit([partial(launch, part) for part in range(len(pieces))], self.slow, caches.landed)
        return side

    def _prepare(self, size: tuple[int, int]) -> None:
        """Makes all memory, runs every piece of work that can occur, and captures it if graphs are wanted."""
        if self.caches is not None:
            # The old memory is freed for the new size once nothing under way uses it.
            self.turns.cancel()
            self._device.synchronize()
            self.caches = self._pieces = None
            self._launcher.forget()
        try:
            caches = Caches(self._device, self._programs, size, self.turns.segments, self._steps)
            # New memory is filled on torch's own stream, which no stream here waits for.
            self._device.synchronize()
            streams = {"lower": self._lower, "fast": self._fast, "slow": self.slow}
            pieces = Pieces(self._programs, caches, self._higher, self._select, **streams)
            occurring = {"fast_track": self._fast_track, "background": not self._blocking, "waited": self._waited}
            self._launcher.warm_up(pieces.all(**occurring))
        except MemoryError as error:
            height, width = size
            raise RuntimeError(
                f"GpuStages: expected room on the device for a video of {width}x{height} frames, got: {error}; lower "
                "the frame size, take dtype='bfloat16', switch graphs off, or run fewer videos"
            ) from error
        self.caches, self._pieces = caches, pieces

    def _ask(self, low: FrameLow) -> None:
        """Enqueues the decision's value of a frame, and the copy of it to the host."""
        slot = self._slot(low)
        self._launcher.launch(self._pieces.select(slot), low.index)
        self._fast.copy(slot.value, slot.value_out)
        self._fast.record(slot.decided)
        # An older value in the same slot that was never read is overwritten by this one.
        self._asked = [(key, asked) for key, asked in self._asked if asked.slot is not slot]
        self._asked.append((self._kept, low))

    def _hand_out(self, slot: Slot, low: FrameLow, scores: str) -> None:
        self._fast.record(slot.labelled)
        self._fetch.wait(slot.labelled)
        self._launcher.copy(self._fetch, slot.labels, slot.labels_out, "propagation", "fetch", low.index)
        slot.asked = scores
        if scores:
            self._fetch.copy(slot.scores, slot.scores_out)
        self._fetch.record(slot.fetched)

    def _slot(self, low: FrameLow) -> Slot:
        if low.slot.serial != low.serial:
            raise RuntimeError(
                f"GpuStages: expected one of the two frames under way, got frame {low.index}, whose slot has been "
                "given to a later one; begin at most one frame ahead"
            )
        return low.slot

    def _idle_side(self) -> Side:
        first, second = self.caches.sides
        return second if self._active is first else first
