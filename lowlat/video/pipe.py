"""Standard input as a source and standard output as a sink, both called ``-`` as elsewhere. For the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lowlat.video.container import ContainerSource
from lowlat.video.files import SinkError
from lowlat.video.frames import Source, SourceError
from lowlat.video.labels import run_length_line, write_whole
from lowlat.video.sink import QUALITY

PIPE = "-"
FORMATS = ("mkv", "jsonl")
"""What can be written to standard output: an H.264 video in Matroska, or label maps as lines of JSON."""
TICKS_S = 1000
"""Matroska counts time in milliseconds."""


def is_pipe(spec: str | Path) -> bool:
    """Whether an input or output is ``-``: standard input or output."""
    return str(spec) == PIPE


def stdin_source(resize: tuple[int, int] | None = None) -> Source:
    """Frames of a video that comes on standard input, in any container that FFmpeg reads from its beginning.

    The writer of the pipe waits while the frames before are segmented: nothing is lost, and the source is not live.

    Args:
        resize: ``(width, height)`` to scale every frame to; None keeps its own.

    Raises:
        SourceError: standard input is closed or a terminal, or holds no video.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise SourceError(
            "open_source: expected a video on standard input for '-', got "
            f"{'none' if sys.stdin is None or sys.stdin.closed else 'a terminal'}; pipe one in, or name a file"
        )
    # Unbuffered, so that a read gives what is there; Python's own reads end on Ctrl-C, FFmpeg's go on.
    stream = open(os.dup(sys.stdin.fileno()), "rb", buffering=0)  # noqa: SIM115
    try:
        return ContainerSource(stream, PIPE, "a video on standard input", resize, live=False)
    except SourceError as error:
        stream.close()
        raise SourceError(
            f"{error} An mp4 with its index at the end can't be read from a pipe: send MPEG-TS, Matroska or a "
            "fragmented mp4"
        ) from error


class _Stdout:
    """Standard output as bytes, each of them on its way when `write` returns; `failed` is its first error.

    Args:
        readable: whether a person can read what is written, on a terminal.
    """

    def __init__(self, *, readable: bool):
        stream = getattr(sys.stdout, "buffer", None)
        if stream is None or stream.closed:
            raise SinkError("output: expected an open standard output for '-', got none; pipe it on, or name a file")
        if stream.isatty() and not readable:
            raise SinkError(
                "output: expected a pipe or file for '-', got a terminal; pipe the video on, or write it to a file"
            )
        sys.stdout.flush()
        self._stream = getattr(stream, "raw", stream)
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        if self.failed is None:
            try:
                write_whole(self._stream, data)
            except OSError as error:
                self.failed = error
        if self.failed is not None:
            raise self.failed
        return len(data)

    def error(self) -> OSError | SinkError:
        """What to raise once `failed` is set: BrokenPipeError where the reader has gone."""
        if isinstance(self.failed, BrokenPipeError):
            return self.failed
        return SinkError(
            f"output: expected a standard output that takes everything, got: {self.failed.strerror}; make room, or "
            "choose another place"
        )


class StdoutVideo:
    """An H.264 video in Matroska on standard output, each picture sent on when it is written.

    Args:
        size: ``(width, height)`` of the pictures; an odd side is padded by repeating its last row or column.
        fps: pictures a second that the video states; the times of `write` are what counts.

    Raises:
        SinkError: at once, if standard output is closed or a terminal.
    """

    def __init__(self, size: tuple[int, int], fps: float | Fraction):
        self.size = size
        self._out = _Stdout(readable=False)
        self._last = -1
        self._closed = False
        # The muxer ends a cluster, which is what it sends on, after each picture.
        options = {"cluster_time_limit": "0", "flush_packets": "1"}
        self._container = av.open(self._out, "w", format="matroska", options=options)
        width, height = size
        self._video = self._container.add_stream("h264", rate=Fraction(fps).limit_denominator(60000))
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.options = {**QUALITY, "tune": "zerolatency"}
        self._video.codec_context.thread_count = 1
        self._video.codec_context.time_base = Fraction(1, TICKS_S)

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Append one picture, uint8 RGB ``(H, W, 3)``, to be shown from ``time_s`` seconds on.

        Raises:
            ValueError: a picture of another size.
            BrokenPipeError: whoever read standard output has gone.
            SinkError: it takes no more for another reason.
        """
        width, height = self.size
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"StdoutVideo.write: expected uint8 pictures ({height}, {width}, 3), "
                f"got {picture.dtype} {picture.shape}"
            )
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        # Two pictures of one millisecond would be refused.
        self._last = frame.pts = max(self._last + 1, round(time_s * TICKS_S))
        frame.time_base = Fraction(1, TICKS_S)
        self._mux(frame)

    def close(self) -> None:
        """Send the rest of the video. May be called again; quiet after an error of `write`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._last >= 0 and self._out.failed is None:
                self._mux(None)
        finally:
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._video.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            if self._out.failed is None:
                raise SinkError(f"output: expected a video that can be encoded, got: {error}") from error
        if self._out.failed is not None:
            raise self._out.error()


class StdoutLines:
    """Label maps as lines of JSON on standard output, as `lowlat.video.labels.run_length_line` gives them.

    Args:
        stems: one name a frame of the source, which its line then holds as ``name``.

    Raises:
        SinkError: at once, if standard output is closed.
    """

    def __init__(self, stems: Sequence[str] | None = None):
        self._out, self._stems = _Stdout(readable=True), stems

    def write(self, labels: np.ndarray, index: int, time_s: float | None) -> None:
        """Send the line of one label map, uint8 ``(H, W)``.

        Raises:
            BrokenPipeError: whoever read standard output has gone.
            SinkError: it takes no more for another reason.
        """
        stem = None if self._stems is None else self._stems[index]
        try:
            self._out.write(run_length_line(labels, index, time_s, stem))
        except OSError as error:
            raise self._out.error() from error

    def close(self) -> None:
        """Nothing is left to send: every line has gone."""
