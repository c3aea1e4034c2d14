"""A run at a camera's pace, and the accuracy of its labels against the truth of the time at which they are done.

Streaming accuracy after Li, Wang, Ramanan, "Towards Streaming Perception", ECCV 2020, and Courdier, Fleuret, "Real-Time
Segmentation Networks should be Latency Aware", ACCV 2020: an output is compared with the truth of the newest frame at
the time at which it is completed.
"""

from __future__ import annotations

import itertools
import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, from_numpy

from lowlat.jobs.live import Summary, Tally, label_frames
from lowlat.lab.metrics import Confusion
from lowlat.runtime import FrameResult, Overload
from lowlat.runtime.options import PreparedNetwork
from lowlat.schedule import Policy
from lowlat.segmenter import VideoSegmenter
from lowlat.video.frames import Timed
from lowlat.video.rate import at_rate

STALL_S = 15.0


@dataclass(frozen=True)
class Shown:
    """One output: the labels of frame ``index``, completed while frame ``current`` was the newest."""

    index: int
    current: int
    labels: np.ndarray
    latency_ms: float


@dataclass(frozen=True)
class Answer:
    """The labels of frame ``index`` in a live run, compressed, since those of a long clip would fill the memory.

    ``current`` is the newest frame at the time at which they were completed. It is None for the start-up frame, which
    comes before time begins, and for labels that were completed after the video was over.
    """

    index: int
    current: int | None
    latency_ms: float
    size: tuple[int, int]
    packed: bytes

    @property
    def labels(self) -> np.ndarray:
        """uint8 ``(H, W)``."""
        return np.frombuffer(bytearray(zlib.decompress(self.packed)), np.uint8).reshape(self.size)


@dataclass(frozen=True)
class Live:
    """The outcome of a run at a camera's pace: an answer for each frame that was not dropped, and the run's figures."""

    answers: list[Answer]
    summary: Summary

    def streaming(self, truth: Sequence[Tensor | None], classes: int) -> dict[str, float | int | None]:
        """:func:`completed` of the answers that were ready while the video ran, start-up left out."""
        return completed([answer for answer in self.answers if answer.current is not None], truth, classes)

    def as_dict(self) -> dict[str, float | int | None]:
        """Describe how the run went in plain values, for JSON."""
        told = ("frames", "dropped", "median_ms", "max_ms", "landings", "landing_delay_frames", "landing_delay_max")
        return {name: getattr(self.summary, name) for name in told}


def run_live(
    network: PreparedNetwork,
    frames: Iterable[Timed],
    fps: float,
    *,
    policy: Policy | None = None,
    mode: str = "low-latency",
    on_answer: Callable[[], None] = lambda: None,
) -> Live:
    """Run a video at a camera's pace: a frame every ``1 / fps`` seconds, which takes the place of one that still waits.
    The first frame is start-up and comes before; time begins with the second.

    Args:
        network: as `prepare` makes it.
        frames: the video, which is read on a thread of its own.
        policy, mode: as in `VideoSegmenter`.
        on_answer: is called for each answer, for a progress bar.

    Raises:
        SourceError, ValueError: what ``frames`` raises, or ``fps`` that is not above 0.
    """
    frames, arrivals, kept, tally = iter(frames), [], [], Tally()

    def keep(frame: np.ndarray, result: FrameResult) -> None:
        packed = zlib.compress(np.ascontiguousarray(result.labels), 1)
        kept.append((result.index, result.emitted_ms, result.latency_ms, result.labels.shape, packed))
        on_answer()

    with VideoSegmenter(network, policy=policy, mode=mode) as segmenter:

        def arriving() -> Iterator[Timed]:
            for frame in at_rate(frames, fps):
                arrivals.append((segmenter.clock.now(), frame.index))
                yield frame

        label_frames(segmenter, itertools.islice(frames, 1), keep, tally)
        label_frames(segmenter, arriving(), keep, tally, overload=Overload.DROP_OLDEST, stall_s=STALL_S)
    answers = [Answer(index, newest(arrivals, emitted, 1000 / fps), *rest) for index, emitted, *rest in kept]
    return Live(answers, tally.summary())


def newest(arrivals: Sequence[tuple[float, int]], time_ms: float, period_ms: float) -> int | None:
    """Return the newest frame at a time, given frames as (ms, index) of their arrival; None before the first one, and
    from a period after the last one on."""
    place = bisect_right(arrivals, time_ms, key=lambda arrival: arrival[0]) - 1
    return arrivals[place][1] if place >= 0 and time_ms < arrivals[-1][0] + period_ms else None


def completed(
    shown: Sequence[Shown | Answer], truth: Sequence[Tensor | None], classes: int
) -> dict[str, float | int | None]:
    """Return how late outputs were, and their accuracy against their own frame and against the newest frame at their
    completion.

    A figure is None if there is nothing to take it from: the machine is so slow that the video ended before the first
    output, or none of these frames has labels.
    """
    late, own = Confusion(classes), Confusion(classes)
    for output in shown:
        for confusion, index in ((own, output.index), (late, output.current)):
            if truth[index] is not None:
                confusion.add(from_numpy(output.labels), truth[index])

    def figure(value: Callable[[], float], digits: int = 2) -> float | None:
        found = float(value()) if shown else math.nan
        return None if math.isnan(found) else round(found, digits)

    return {
        "shown": len(shown),
        "latency_ms": figure(lambda: np.mean([output.latency_ms for output in shown])),
        "frames_late": figure(lambda: np.mean([output.current - output.index for output in shown]), 3),
        "miou_of_its_frame": figure(lambda: own.miou),
        "streaming_miou": figure(lambda: late.miou),
    }
