"""The outputs of `lowlat segment` beside a video file: label maps in folders, and video or label maps on standard
output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowlat.classes import Classes
from lowlat.runtime import FrameResult
from lowlat.video.files import SinkError
from lowlat.video.labels import KINDS, LabelSink, RunLengthSink
from lowlat.video.overlay import Overlay
from lowlat.video.pipe import FORMATS, StdoutLines, StdoutVideo, is_pipe
from lowlat.video.sink import is_video_path
from lowlat.video.source import Source

NAMES = ("index", "stem")

Write = Callable[[np.ndarray, FrameResult], None]
Opened = tuple[Write, Callable[[], None], tuple[int, int] | None]
"""What writes one frame's result, what closes the output, and ``(width, height)`` of a video; None for label maps,
which have the size of their frames."""


@dataclass(frozen=True)
class Form:
    """What is written, once the caller's words are known to fit together.

    Attributes:
        video: whether it is a video file, which this module doesn't write.
        pipe: whether it goes to standard output.
        labels: how label maps are written, one of ``KINDS``; None for a video.
        names: how label maps are called, one of ``NAMES``; None for stems if the source has them.
    """

    video: bool
    pipe: bool
    labels: str | None
    names: str | None


def form_of(
    source: str | Path, output: str | Path, labels: str | None, names: str | None, pipe_format: str | None
) -> Form:
    """Find out what is to be written, before any work starts.

    Args:
        labels: how label maps in a folder are written: "palette" (by default), "grey" or "rle".
        names: how label maps are called: "index" or "stem".
        pipe_format: what is written to the output ``-``: "mkv" (by default) or "jsonl".

    Raises:
        ValueError: an unknown word, or words that don't fit the output.
        SinkError: the output is the input, or its suffix is unknown.
    """
    for option, word, words in (("labels", labels, KINDS), ("names", names, NAMES), ("format", pipe_format, FORMATS)):
        if word is not None and word not in words:
            raise ValueError(
                f"segment: expected --{option} to be one of {', '.join(words)}, got {word!r}; name one of them"
            )
    pipe = is_pipe(output)
    if pipe_format is not None and not pipe:
        raise ValueError(
            f"segment: expected --format with the output '-', got it with {str(output)!r}, whose name says what it is; "
            "leave it out"
        )
    if pipe:
        lines = labels == "rle" if pipe_format is None else pipe_format == "jsonl"
        labels = labels or ("rle" if lines else None)
        video = False
        if labels != ("rle" if lines else None):
            raise ValueError(
                f"segment: expected --labels rle with --format jsonl on standard output, got --labels {labels} with "
                f"--format {'jsonl' if lines else 'mkv'}; name a folder for PNGs"
            )
    else:
        video = is_video_path(output)
        if video and labels is not None:
            raise ValueError(
                f"segment: expected --labels with a folder, got it with the video {str(output)!r}; leave it out, or "
                "name a folder"
            )
        labels = None if video else labels or "palette"
    if names is not None and labels is None:
        raise ValueError("segment: expected --names with label maps, got it with a video; leave it out")
    if not pipe and Path(source).is_dir() and Path(output).is_dir() and Path(source).samefile(output):
        raise SinkError(
            f"segment: expected an output beside the input, got {str(output)!r} for both; name another folder"
        )
    return Form(video, pipe, labels, names)


def open_output(form: Form, output: str | Path, source: Source, classes: Classes, *, constant: bool = False) -> Opened:
    """Open the output that ``form`` describes.

    Args:
        constant: whether a video has a constant rate.

    Raises:
        ValueError: stems are asked for, of a source that has none.
        SinkError: the output can't be written to.
    """
    if form.labels is None:
        overlay = Overlay(classes.names, classes.palette, source.size)
        fps = source.steady_fps if constant else source.fps
        video = StdoutVideo(overlay.size, fps, pixel_aspect=source.pixel_aspect, constant=constant)
        return lambda frame, result: video.write(overlay.draw(frame, result), result.time_s), video.close, video.coded
    stems = None if form.names == "index" else source.stems
    if stems is None and form.names == "stem":
        raise ValueError(
            f"segment: expected --names stem with a folder of images, got it with {source.name!r}, whose frames have "
            "no names; use --names index"
        )
    if form.pipe:
        lines = StdoutLines(stems)
        return lambda _, result: lines.write(result.labels, result.index, result.time_s), lines.close, None
    if form.labels == "rle":
        runs = RunLengthSink(output, classes.palette, names=classes.names, stems=stems)
        return lambda _, result: runs.write(result.labels, result.index, result.time_s), runs.close, None
    grey = form.labels == "grey"
    maps = LabelSink(output, classes.palette, grey=grey, names=classes.names, stems=stems)
    return lambda _, result: maps.write(result.labels, result.index), maps.close, None
