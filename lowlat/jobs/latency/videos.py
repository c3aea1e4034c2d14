"""The job behind `lowlat hub`: several videos on one device, each compared with one video alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np

from lowlat import models
from lowlat.hub.hub import Hub
from lowlat.hub.video import Video
from lowlat.jobs.latency.runs import WARM_UP, source_frames
from lowlat.jobs.live import device_name, steady_process
from lowlat.runtime import FrameResult
from lowlat.runtime.words import counted
from lowlat.schedule import Every


@dataclass(frozen=True)
class VideoFigures:
    """One video of a run, its start-up and the frames after that left out; latencies in ms, ages in frames."""

    frames: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    p99_over_alone: float
    """Over that of one video alone, in the same process."""
    age_mean: float
    age_max: int
    landings: int
    dropped: int
    failed: int


@dataclass(frozen=True)
class VideosFigures:
    """A run of several videos."""

    videos: int
    bound_ms: float
    """What a frame may take at most, by the costs measured."""
    spacing: int
    """Frames between key frames at least; more than 1 where there is no time for more passes of S_h."""
    capacity: int
    """How many more of them there was room for."""
    each: tuple[VideoFigures, ...]


@dataclass(frozen=True)
class VideosReport:
    """What :func:`measure_videos` found."""

    network: str
    device: str
    dtype: str
    source: str
    width: int
    height: int
    fps: float
    interval: int
    runs: tuple[VideosFigures, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain values, for JSON."""
        return asdict(self)


def measure_videos(
    counts: Sequence[int],
    *,
    network: str = "lite",
    device: str = "cpu",
    dtype: str = "float32",
    frames: int = 200,
    fps: float = 3.0,
    interval: int = 5,
    source: str | None = None,
    size: tuple[int, int] = (480, 360),
    pixels: int | str | None = "default",
    cores: int | None = None,
) -> VideosReport:
    """Give one video alone, then each number of videos in ``counts``, frames at a locked rate, evenly spread, and
    measure their latencies.

    Args:
        counts: how many videos, one number for each run.
        network, device, dtype, pixels: as in :class:`lowlat.Hub`.
        frames: how many frames of each video are measured, after the first ones.
        fps: frames a second of each video.
        interval: frames between key frames.
        source: a video, by default a synthetic one; every video has the same frames.
        size: ``(width, height)`` of the frames.
        cores: threads on a CPU; by default one for each core at hand.

    Raises:
        ValueError: an impossible number.
        RuntimeError: a video is refused, since its bound would not hold.
    """
    if not counts or min(counts) < 1:
        raise ValueError(f"hub: expected --videos of at least 1, got {list(counts)}; say how many videos")
    if frames < 1 or not fps > 0:
        raise ValueError(f"hub: expected frames and fps above 0, got {frames} and {fps:g}; raise them")
    with source_frames(source, size) as opened:
        pictures = list(islice(opened, frames + WARM_UP))
    if len(pictures) <= WARM_UP:
        raise ValueError(
            f"hub: expected more than the {WARM_UP} frames of the start, got "
            f"{counted(len(pictures), 'frame')} of {source!r}; give a longer video"
        )
    height, width = pictures[0].shape[:2]
    made = models.load(network)
    options = {"device": device, "dtype": dtype, "pixels": pixels}
    if device == "cpu":
        options["cores"] = cores
    runs: list[VideosFigures] = []
    for count in (1, *(count for count in counts if count != 1)):
        with Hub(made, **options) as hub, steady_process():
            videos = [
                hub.open(
                    str(number),
                    fps=fps,
                    size=(height, width),
                    policy=Every(interval),
                    over="lower",
                    hold=len(pictures),
                )
                for number in range(count)
            ]
            spacing = hub.spacing
            _feed(videos, pictures, fps)
            bound_ms, capacity, where = hub.bound_ms, hub.capacity(fps, size=(height, width)), device_name(hub.device)
        # Results end when the hub is closed.
        alone = runs[0].each[0].p99_ms if runs else None
        each = tuple(_figures(video, list(video), alone) for video in videos)
        runs.append(VideosFigures(count, round(bound_ms, 3), spacing, capacity, each))
    return VideosReport(network, where, dtype, source or "synthetic", width, height, fps, interval, tuple(runs))


def _feed(videos: Sequence[Video], pictures: Sequence[np.ndarray], fps: float) -> None:
    """Hand every video its frames, one video after the other within each period, and wait for the last labels."""
    begun = time.perf_counter()
    for index, picture in enumerate(pictures):
        for number, video in enumerate(videos):
            due = begun + (index + number / len(videos)) / fps
            time.sleep(max(0.0, due - time.perf_counter()))
            video.submit(picture, time_s=index / fps)
    while any(video.counts.waiting for video in videos):
        time.sleep(1e-3)


def _figures(video: Video, results: Sequence[FrameResult], alone: float | None) -> VideoFigures:
    """Make the figures of a video all of whose results are held; reading ends with the newest."""
    steady = [result for result in results if result.index >= WARM_UP]
    if not steady:
        raise ValueError(f"hub: expected labels after the first {WARM_UP} frames, got none; lower fps")
    latencies = [result.latency_ms for result in steady]
    p50, p99, most = (round(float(value), 3) for value in np.percentile(latencies, (50, 99, 100)))
    ages, counts = [result.age for result in steady], video.counts
    return VideoFigures(
        frames=len(steady),
        p50_ms=p50,
        p99_ms=p99,
        max_ms=most,
        p99_over_alone=1.0 if alone is None else round(p99 / alone, 3),
        age_mean=round(float(np.mean(ages)), 3),
        age_max=max(ages),
        landings=counts.schedule.landings,
        dropped=counts.dropped,
        failed=counts.failed,
    )
