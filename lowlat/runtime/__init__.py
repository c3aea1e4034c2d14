"""Running a schedule: one `Engine` for every runtime, with three parts to swap: stages, worker, clock.

The names here are free of torch. What needs torch is imported from `lowlat.runtime.cpu` and `lowlat.runtime.gpu`.
"""

from lowlat.runtime.buffer import Captured, FrameBuffer, Overload
from lowlat.runtime.engine import Engine
from lowlat.runtime.protocols import Clock, Job, KeyFrame, Outcome, Pipelined, Stages, WallClock, Worker
from lowlat.runtime.result import TRACKS, FrameResult, Span

__all__ = [
    "Captured", "Clock", "Engine", "FrameBuffer", "FrameResult", "Job", "KeyFrame", "Outcome", "Overload",
    "Pipelined", "Span", "Stages", "TRACKS", "WallClock", "Worker",
]  # fmt: skip
