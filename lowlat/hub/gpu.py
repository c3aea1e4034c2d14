"""A hub's videos on a GPU, each with streams, memory and graphs of its own. S_h of all of them runs in
`lowlat.hub.gpu_machine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lowlat.hub.gpu_machine import GpuMachine
from lowlat.hub.seat import Seat
from lowlat.hub.shared import Asked, SharedStream
from lowlat.runtime.engine import Engine
from lowlat.runtime.gpu import engine as room
from lowlat.runtime.gpu.caches import Side
from lowlat.runtime.gpu.device import Device, Event, Size, Stream
from lowlat.runtime.gpu.isolation import SEGMENTS, Turns
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.gpu.stages import FrameHigh, FrameLow, GpuStages
from lowlat.runtime.gpu.worker import GpuWorker
from lowlat.runtime.protocols import Job
from lowlat.schedule import Schedule


class Queued(Turns):
    """The turns of one video: its S_h is queued with the hub, which launches it part by part."""

    segments = SEGMENTS

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._waited_for: Asked | None = None
        self._stream: Stream | None = None
        self._error: BaseException | None = None
        self.asked: Callable[[Sequence[Callable[[], None]], Event], Asked] | None = None
        """Makes the `Asked` of the parts that are submitted next."""

    def submit(self, parts: Sequence[Callable[[], None]], stream: Stream, landed: Event) -> None:
        self._stream, self._waited_for = stream, self.asked(parts, landed)
        self._seat.ask(self._waited_for, self._ended)

    def done(self, landed: Event) -> bool:
        return self._waited_for is None and landed.done()

    def error(self) -> BaseException | None:
        error, self._error = self._error, None
        return error

    def cancel(self) -> None:
        if self._waited_for is not None:
            self._seat.passes.forget(self._seat)
            # The parts that have been launched are on the stream before this event.
            self._stream.record(self._waited_for.landed)
            self._waited_for = None

    def close(self) -> None:
        self.cancel()

    def _ended(self, high: Any, error: BaseException | None, start_ms: float, end_ms: float) -> None:
        self._waited_for, self._error = None, error


class HubStages(GpuStages):
    """The stages of one video on a GPU, whose first frame has been through S_l and S_h before the engine asks for it.

    Args:
        seat: the seat of the video.
        device: the video's own device, with its streams.
        programs: the network's stages on the device.
        schedule: the schedule of the video.
        shared: the stream on which S_h of all videos runs.
    """

    def __init__(
        self, seat: Seat, device: Device, programs: NetworkPrograms, schedule: Schedule, shared: Stream
    ) -> None:
        turns = Queued(seat)
        super().__init__(device, programs, schedule, graphs=programs.options.graphs, turns=turns)
        self.slow = SharedStream(shared, self.slow)
        self._seat = seat
        self._first: tuple[Any, FrameLow] | None = None
        self._outcome: tuple[FrameHigh | None, BaseException | None] | None = None

    def prepare(self, size: Size) -> None:
        if self.caches is not None and self.caches.size == size:
            return
        self.slow.preparing = True
        try:
            self._prepare(size)
        finally:
            self.slow.preparing = False

    def preparation(self, frame: Any) -> Callable[[], None] | None:
        size = self._programs.size_of(frame)
        return None if self.caches is not None and self.caches.size == size else partial(self.prepare, size)

    def release(self) -> None:
        self._device.close()

    def start(self, frame: Any, index: int) -> Asked:
        low = self.begin(frame, index)
        self._first, self._outcome = (frame, low), None
        slot, side = low.slot, self._idle_side()
        self.turns.cancel()
        self.slow.wait(slot.lowered)
        self.slow.wait(side.read)
        pieces = self._pieces.higher(slot.low, side)
        parts = [partial(self._launcher.launch, piece) for piece in pieces]
        return Asked(slot.low, side, self.caches.scratch, parts, self.caches.landed)

    def started(self, high: Any, error: BaseException | None) -> None:
        self._outcome = (FrameHigh(high) if error is None else None), error

    def begin(self, frame: Any, index: int) -> FrameLow:
        if self._first is not None and self._first[0] is frame:
            low, self._first = self._first[1], None
            return low
        return super().begin(frame, index)

    def higher(self, low: FrameLow) -> FrameHigh:
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return super().higher(low)
        # If S_h failed half-way, propagation must still come after what was enqueued of it.
        self._fast.wait(self.caches.landed)
        high, error = outcome
        if error is not None:
            self._fast.record(low.slot.free)
            raise error
        return high

    def restart(self) -> None:
        if self._first is not None:
            # The first frame is given up, and the launched parts of its S_h still read its F_l.
            slot = self._first[1].slot
            self.slow.record(self.caches.landed)
            self._fast.wait(self.caches.landed)
            self._fast.record(slot.free)
        self._first = self._outcome = None
        super().restart()

    def launch_higher(self, job: Job, start: Event, end: Event) -> Side:
        caches, side = self.caches, self._idle_side()
        self.turns.asked = lambda parts, landed: Asked(caches.kept, side, caches.scratch, parts, landed, start, end)
        return super().launch_higher(job, start, end)


class HubWorker(GpuWorker):
    """The worker of one video. Closing it doesn't wait for the device, which :meth:`HubStages.release` does."""

    def close(self) -> None:
        self._closed = True
        self._stages.turns.close()


def gpu_video(
    seat: Seat, schedule: Schedule, programs: NetworkPrograms, machine: GpuMachine
) -> tuple[Engine, HubStages]:
    """Make the engine of one video, and its stages."""
    # The hub's queue knows the parts of S_h alone, so F_h is not carried on before it lands.
    seat.schedule = schedule = replace(schedule, steps=0)
    device = room.CudaDevice(programs.device)
    stages = HubStages(seat, device, programs, schedule, machine.stream)
    engine = Engine(schedule, stages, HubWorker(stages, device), clock=device)
    engine.classes = programs.network.legend
    return engine, stages
