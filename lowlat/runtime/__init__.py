"""Running a schedule: one engine, three parts to swap (stages, worker, clock), one triple per runtime.

Free of torch; what isn't is imported from its own room: `lowlat.runtime.cpu`, `lowlat.runtime.gpu`.
"""

from lowlat.runtime.buffer import Captured, FrameBuffer, Overload
from lowlat.runtime.engine import Engine
from lowlat.runtime.protocols import Clock, Job, KeyFrame, Outcome, Pipelined, Stages, WallClock, Worker
from lowlat.runtime.result import TRACKS, FrameResult, Span

__all__ = [
    "Captured", "Clock", "Engine", "FrameBuffer", "FrameResult", "Job", "KeyFrame", "Outcome", "Overload",
    "Pipelined", "Span", "Stages", "TRACKS", "WallClock", "Worker",
]  # fmt: skip
