"""How large a study is: settings of the full one, and of a quick one that takes minutes."""

from __future__ import annotations

from dataclasses import dataclass

from lowlat.lab.accuracy import DISTANCES
from lowlat.lab.replay import PAPER_DELAY

INTERVAL = 5
"""Frames between key frames in Tables 1 and 2, as published."""


@dataclass(frozen=True)
class Settings:
    """Counts and sizes of a study; lengths in frames, steps of training, pixels.

    Attributes:
        seeds: how many times networks and methods are trained, with seeds 0, 1, ...; 0 to train nothing and to measure
            the network given.
        steps: the steps of each training of a method or selector; None takes each recipe's own.
        base_steps: the steps of the per-frame network's training; None takes the recipe's own.
        pairs: the pairs of frames that a method is trained on.
        stills: the most images of the training list that motion is simulated on.
        batch: the batch of each training; None takes each recipe's own.
        frames: the most frames of the labelled video that are measured; None for all.
        images: the most images of the test list that are measured; None for all.
        intervals: the intervals between key frames in Figure 5.
        distances: the distances from the key frame at which methods are measured.
        delay: the frames until S_h lands in replay, in the low-latency mode.
        fps: the rate of the labelled video, in frames a second (CamVid: 15), for streaming accuracy.
        pixels: of the working size at which networks see frames: "default" for that of their weights, None for the
            frames' own size.
        live_frames: the frames of the live low-latency run behind the runtimes; other schedules run half as many.
        live_fps: the rate of that run, in frames a second, which the fast track must hold.
        repeats: how many times each module is timed.
    """

    seeds: int = 3
    steps: int | None = 300
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
    pixels: int | str | None = "default"
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
    pixels=None,
    live_frames=12,
    live_fps=12.0,
    repeats=5,
)
QUICK_DATA = "street:128x96,frames=48"
