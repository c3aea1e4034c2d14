"""How large a study is: the whole one, and one of minutes."""

from __future__ import annotations

from dataclasses import dataclass

from lowlat.lab.accuracy import DISTANCES
from lowlat.runtime.replay import PAPER_DELAY

INTERVAL = 5
"""Frames between key frames in Tables 1 and 2, as published."""


@dataclass(frozen=True)
class Settings:
    """Counts and sizes of a study; lengths in frames, steps of training, pixels.

    Attributes:
        seeds: networks and methods are trained so many times, with seeds 0, 1, ...; 0 to train nothing and to measure
            the network given.
        steps: of each training of a method or selector; None takes each recipe's own.
        base_steps: of the per-frame network, where the study trains it; None as above.
        pairs: of frames to train a method on.
        stills: images of the training list, at most, that motion is simulated on.
        batch: of each training; None as above.
        frames: of the labelled video, at most; None for all.
        images: of the test list, at most.
        intervals: of Figure 5.
        distances: from the key frame.
        delay: of S_h in replay, in the low-latency mode.
        fps: of the labelled video (CamVid: 15 Hz), for streaming accuracy.
        live_frames: of the live run behind the runtimes; half as many of each other schedule.
        live_fps: of that run: a rate that the fast track holds.
        repeats: of each module that is timed.
    """

    seeds: int = 3
    steps: int | None = None
    base_steps: int | None = None
    pairs: int = 1000
    stills: int = 367
    batch: int | None = None
    frames: int | None = None
    images: int | None = None
    intervals: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10)
    distances: tuple[int, ...] = DISTANCES
    delay: int = PAPER_DELAY
    fps: float = 15.0
    live_frames: int = 120
    live_fps: float = 5.0
    repeats: int = 20

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "base_steps", "pairs"):
            value = getattr(self, name)
            least = 0 if name == "seeds" else 1
            if value is not None and value < least:
                raise ValueError(f"study: expected {name} of at least {least}, got {value!r}; raise it")


QUICK = Settings(
    seeds=1,
    steps=20,
    base_steps=40,
    pairs=32,
    stills=8,
    batch=4,
    frames=30,
    images=6,
    intervals=(2, 5),
    distances=(1, 5),
    live_frames=12,
    live_fps=12.0,
    repeats=5,
)
QUICK_DATA = "street:128x96,frames=48"
