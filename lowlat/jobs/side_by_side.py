"""Two recorded runs of one clip, drawn side by side as a video and a picture. For `lowlat demo`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress

from lowlat.classes import Classes
from lowlat.jobs.live import Advance, Summary
from lowlat.jobs.steadiness import Steadiness, SteadinessFigures, same_labels
from lowlat.runtime import FrameResult
from lowlat.video.files import whole_file
from lowlat.video.frames import is_cut
from lowlat.video.overlay import Overlay
from lowlat.video.reconnect import say_on_stderr
from lowlat.video.sink import VideoSink
from lowlat.video.source import SourceError, open_source

TITLES = "frame by frame", "low-latency"


@dataclass
class Recorded:
    """One run of a clip, recorded without pictures."""

    summary: Summary
    results: list[FrameResult]
    labels: list[bytes]
    missing: list[int]
    """Numbers of the frames that could not be decoded."""
    error: SourceError | None
    """The error that the source broke with, if it did."""


def draw_both(
    clip: str,
    out: Path,
    size: tuple[int, int],
    classes: Classes,
    whole: Recorded,
    fast: Recorded,
    progress: Progress,
) -> tuple[SteadinessFigures, int]:
    """Write ``overlay.mp4``, a video with the labels of both runs, and ``overlay.png``, its frame of median agreement,
    to ``out``.

    Args:
        clip: the clip, which is read once more.
        size: ``(width, height)`` of its frames.
        whole, fast: the run frame by frame, and the low-latency run.

    Returns:
        How steady the low-latency run was beside the other one, and the index of the frame of median agreement.
    """
    full = whole.summary.median_ms
    told = {"full_ms": full, "full_name": f"whole network {full:.0f} ms"}
    overlay = Overlay(classes.names, classes.palette, size, beside=True, titles=TITLES, **told)
    advance = Advance(progress, "drawing", len(fast.results))
    median, steadiness, before, picture = _median_frame(fast.labels, whole.labels, size), Steadiness(), None, None
    with open_source(clip) as source:
        facts = {"pixel_aspect": source.pixel_aspect, "audio": source.audio}
        sink = VideoSink(out / "overlay.mp4", overlay.size, source.fps, **facts)
        # The source comes last, so that no frame is read beyond those that have labels.
        drawn = enumerate(zip(fast.results, fast.labels, whole.labels, source, strict=False))
        try:
            for number, (result, ours, theirs, frame) in drawn:
                result.labels, per_frame = _unpack(ours, size), _unpack(theirs, size)
                steadiness.add(result.labels, per_frame, cut=before is not None and is_cut(before, frame))
                overlaid = overlay.draw(frame, result, per_frame)
                sink.write(overlaid, result.time_s)
                if number <= median:
                    picture = overlaid
                result.labels, before = None, frame
                advance()
        except BaseException:
            sink.abandon()
            raise
        sink.close()
    with whole_file(out / "overlay.png") as part:
        Image.fromarray(picture).save(part, format="png")
    if sink.notice:
        say_on_stderr(sink.notice)
    advance.draw()
    return steadiness.figures(), fast.results[median].index


def _median_frame(ours: list[bytes], theirs: list[bytes], size: tuple[int, int]) -> int:
    """Return the place, from 0, of the frame whose agreement is the median of all; of two in the middle, the lower
    one."""
    agreement = [
        np.count_nonzero(same_labels(_unpack(left, size), _unpack(right, size)))
        for left, right in zip(ours, theirs, strict=False)
    ]
    return sorted(range(len(agreement)), key=agreement.__getitem__)[(len(agreement) - 1) // 2]


def _unpack(labels: bytes, size: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(labels), np.uint8).reshape(size[1], size[0])
