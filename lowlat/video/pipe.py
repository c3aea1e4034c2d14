"""Standard input as a source and standard output as a sink, both called ``-``."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lowlat.video.container import ContainerSource
from lowlat.video.files import SinkError
from lowlat.video.frames import Source, SourceError, Timed
from lowlat.video.labels import run_length_line, write_whole
from lowlat.video.sink import VideoSink

PIPE = "-"
FORMATS = ("mkv", "jsonl")
"""What can be written to standard output: an H.264 video in Matroska, or label maps as lines of JSON."""


def is_pipe(spec: str | Path) -> bool:
    """Whether an input or output is ``-``: standard input or output."""
    return str(spec) == PIPE


def stdin_source(resize: tuple[int, int] | None = None, *, any_size: bool = False) -> Source:
    """Open a video that comes on standard input as a source, in any container that FFmpeg reads from its beginning.

    The writer of the pipe waits while frames are segmented, so nothing is lost and the source is not live.

    Args:
        resize: ``(width, height)`` to scale every frame to; None keeps its own.
        any_size: as in `ContainerSource`.

    Raises:
        SourceError: standard input is closed or a terminal, or holds no video.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise SourceError(
            "open_source: expected a video on standard input for '-', got "
            f"{'none' if sys.stdin is None or sys.stdin.closed else 'a terminal'}; pipe one in, or name a file"
        )
    stream = _Input(os.dup(sys.stdin.fileno()), "rb")
    try:
        return _StdinSource(stream, resize, any_size)
    except SourceError as error:
        stream.close()
        if stream.interrupt is not None:
            raise stream.interrupt from None
        raise SourceError(
            f"{error} An mp4 with its index at the end can't be read from a pipe: send MPEG-TS, Matroska or a "
            "fragmented mp4"
        ) from error


class _Input(io.FileIO):
    """A file whose reads return what is there. A read that Ctrl-C interrupts is the end of the file, and is kept in
    `interrupt`.

    FFmpeg's own reads would go on after Ctrl-C, and PyAV loses an exception that a read of Python raises.
    """

    interrupt: KeyboardInterrupt | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            data = b"" if self.interrupt is not None else super().read(size)
            while data is None:
                # Another program that has the pipe has told it not to wait.
                select.select([self], [], [])
                data = super().read(size)
            return data
        except KeyboardInterrupt as error:
            self.interrupt = error
            return b""


class _StdinSource(ContainerSource):
    def __init__(self, stream: _Input, resize: tuple[int, int] | None, any_size: bool):
        self._input = stream
        super().__init__(stream, PIPE, "a video on standard input", resize, live=False, any_size=any_size)

    def timed(self) -> Iterator[Timed]:
        try:
            for timed in super().timed():
                if self._input.interrupt is not None:
                    break
                yield timed
        except SourceError:
            if self._input.interrupt is None:
                raise
        if self._input.interrupt is not None:
            raise self._input.interrupt


class _Stdout:
    """Standard output as bytes, which are on their way when `write` returns; `failed` is its first error.

    Args:
        readable: whether it may be a terminal, since a person can read what is written.
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
        """Return the error to raise once `failed` is set: BrokenPipeError if the reader has gone."""
        if isinstance(self.failed, BrokenPipeError):
            return self.failed
        return SinkError(
            f"output: expected a standard output that takes everything, got: {self.failed.strerror}; make room, or "
            "choose another place"
        )


class StdoutVideo(VideoSink):
    """An H.264 video in Matroska on standard output, each picture sent when it is written; without sound.

    Args:
        size: ``(width, height)`` of the pictures; an odd side is padded by repeating its last row or column.
        fps, options: as in `VideoSink`.

    Raises:
        SinkError: at once, if standard output is closed or a terminal; later, if it takes no more.
        BrokenPipeError: by ``write`` or ``close``, once whoever read standard output has gone.
    """

    def __init__(self, size: tuple[int, int], fps: float | Fraction, **options):
        self._out = _Stdout(readable=False)
        super().__init__("stdout.mkv", size, fps, live=True, **options)

    def abandon(self) -> None:
        """Send no more. May be called again."""
        self._let_go()

    def _open(self) -> av.container.OutputContainer:
        # The muxer sends on whole clusters only: it begins one for each picture.
        return av.open(self._out, "w", format=self._form, options={"cluster_time_limit": "0", "flush_packets": "1"})

    def _finish(self) -> None:
        if self._out.failed is not None:
            raise self._out.failed

    def _encode(self, frame: av.VideoFrame, ticks: int) -> None:
        super()._encode(frame, ticks)
        # What the muxer sends late may have failed without a word.
        if self._out.failed is not None:
            raise self._kept(self._out.failed)

    def _kept(self, error: BaseException) -> OSError | SinkError:
        self._let_go()
        return self._unwritable(error)

    def _unwritable(self, error: BaseException) -> OSError | SinkError:
        if self._out.failed is not None:
            return self._out.error()
        return SinkError(f"output: expected a video that can be encoded, got: {error}; choose another size")


class StdoutLines:
    """Label maps as lines of JSON on standard output, as `lowlat.video.labels.run_length_line` makes them.

    Args:
        stems: a name for each frame of the source, which its line then holds as ``name``.

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
        """Do nothing, since every line has been sent."""
