"""`VideoSink` writes an H.264 video that plays however the run ends."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from lowlat.video.files import SinkError, SteadyFlush, whole_file
from lowlat.video.frames import HIGH_ROWS
from lowlat.video.remux import AudioTrack, cut_to_whole_boxes, finish, growing, measure, named

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Without pictures that are predicted from later ones, each fragment is complete and times need no shift.
QUALITY = {"preset": "veryfast", "crf": "20", "bf": "0"}
# The matrix, primaries and transfer that are tagged, and the matrix as the conversion calls it.
_HIGH = (Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709, Colorspace.ITU709)
_STANDARD = (6, ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M, Colorspace.ITU601)
FINEST = 90_000
"""About how many ticks a second times are rounded to."""
LONGEST_S = 1.0
"""The most seconds for which the last picture is shown, which otherwise lasts as long as the one before."""


def is_video_path(path: str | Path) -> bool:
    """Whether an output means a video, by its suffix, rather than a folder of label maps.

    Raises:
        SinkError: the suffix is no video's, and there is no such folder.
    """
    path = Path(path)
    if path.suffix.lower() in CONTAINERS:
        return True
    if path.suffix and not path.is_dir():
        raise SinkError(
            f"output: expected a video ({', '.join(CONTAINERS)}) or a folder for label maps, "
            f"got {str(path)!r}; change the suffix, or leave it out for a folder"
        )
    return False


class VideoSink:
    """An H.264 video whose pictures bear the times they are given.

    It grows under a name of its own beside ``path`` (``out.<process>.part.mp4``) and can be played there at any time,
    also if the process is killed. ``close`` makes it plain, with its index at the start, and gives it its name. Close
    it after an exception too (or use it as a context manager). If nothing was written, or after ``abandon``, no new
    file remains, and one that was at ``path`` before stays. Where the disk is full, what fitted is kept under the
    final name.

    Videos from 720 rows on are converted and tagged as BT.709, smaller ones as SMPTE 170M (BT.601).

    Args:
        path: the video; its suffix, one of ``CONTAINERS``, says the container.
        size: ``(width, height)`` of the pictures; an odd side is padded by repeating its last row or column.
        fps: pictures a second, where no times are given, and with ``constant``.
        pixel_aspect: width over height of one pixel; None for not saying.
        audio: sound to copy from the source, as its `Source.audio`; None for none.
        constant: show every picture for ``1 / fps`` seconds: pictures are repeated or left out to keep the time.
        live: have the encoder hold no pictures back: of a slow camera they would be many seconds, lost to a kill.

    Attributes:
        notice: why the sound is not copied; empty if it is, or there is none.
        coded: ``(width, height)`` of the video: ``size`` with odd sides padded.
        replaced: whether another file at ``path`` has given way to this one.

    Raises:
        SinkError: at once, if the output can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float | Fraction,
        *,
        pixel_aspect: Fraction | None = None,
        audio: AudioTrack | None = None,
        constant: bool = False,
        live: bool = False,
    ):
        self.path, self.size = Path(path), size
        self.coded, self.replaced = (size[0] + size[0] % 2, size[1] + size[1] % 2), False
        suffix = self.path.suffix.lower()
        if suffix not in CONTAINERS:
            raise SinkError(
                f"VideoSink: expected a name ending in {', '.join(CONTAINERS)}, got {str(path)!r}; rename it"
            )
        if self.path.is_dir():
            raise SinkError(f"VideoSink: expected a file's name, got a folder at {str(path)!r}; name a file in it")
        self._form, self._audio, self.notice = CONTAINERS[suffix], audio, ""
        self._growing = self.path.with_name(f"{self.path.stem}.{os.getpid()}.part{suffix}")
        self._rate, self._constant = Fraction(fps).limit_denominator(60000), constant
        self._quality = {**QUALITY, "tune": "zerolatency"} if live else QUALITY
        self._base = _time_base(self._rate)
        # Ticks of one period, of the last picture, and from the one before to it.
        self._period = round(1 / self._rate / self._base)
        self._last, self._gap = -1, self._period
        self._time_s: float | None = None
        # With a constant rate, the picture that waits for its end, and its place.
        self._held: tuple[av.VideoFrame, int] | None = None
        self._closed, self._flush = False, SteadyFlush()
        try:
            self._container = self._open()
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error
        try:
            self._add_video(pixel_aspect)
            if audio is not None and audio.codec not in self._container.supported_codecs:
                self._audio = None
                self.notice = f"the sound is left out: {suffix} can't hold {audio.codec}, another container may"
            self._container.start_encoding()
        except BaseException as error:
            self.abandon()
            if isinstance(error, (av.error.FFmpegError, OSError, ValueError)):
                raise self._unwritable(error) from error
            raise

    def _open(self) -> av.container.OutputContainer:
        return av.open(named(self._growing), "w", format=self._form, options=growing(self._form))

    def _add_video(self, pixel_aspect: Fraction | None) -> None:
        # FFmpeg chooses the encoder: libx264 where it has it, else another one of H.264.
        self._video = self._container.add_stream("h264", rate=self._rate)
        self._video.width, self._video.height = self.coded
        self._video.pix_fmt, self._video.options = "yuv420p", self._quality
        context = self._video.codec_context
        context.thread_count, context.time_base = 1, self._base
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect.limit_denominator(1000)
        self._colours = _HIGH if self.size[1] >= HIGH_ROWS else _STANDARD
        context.colorspace, context.color_primaries, context.color_trc = self._colours[:3]
        context.color_range = ColorRange.MPEG

    def write(self, picture: np.ndarray, time_s: float | None = None) -> None:
        """Append one picture, uint8 RGB ``(H, W, 3)``.

        Args:
            time_s: when it is shown, in seconds from the start, rising; by default one period after the last one.

        Raises:
            ValueError: a picture of another size, or a time that doesn't rise.
            SinkError: the output can no longer be written; says how much of it is kept.
        """
        width, height = self.size
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"VideoSink.write: expected uint8 pictures ({height}, {width}, 3), got {picture.dtype} {picture.shape}"
            )
        if time_s is None:
            time_s = 0.0 if self._time_s is None else self._time_s + float(1 / self._rate)
        if time_s < 0 or (self._time_s is not None and time_s <= self._time_s):
            raise ValueError(
                f"VideoSink.write: expected a time above {-1 if self._time_s is None else self._time_s:g} s, "
                f"got {time_s:g} s; write pictures in the order of their times"
            )
        self._time_s = time_s
        if width % 2 or height % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._colours[3])
        if self._constant:
            self._repeat_until(round(time_s * self._rate), frame)
        else:
            self._encode(frame, max(round(time_s / self._base), self._last + 1))

    def close(self) -> None:
        """Finish the video and give it its final name. May be called again.

        Raises:
            SinkError: the rest of it can't be written; says how much of it is kept.
        """
        if self._closed:
            return
        if self._held is not None:
            self._release(self._held[1] + 1)
            self._held = None
        if self._last < 0:
            self.abandon()
            return
        try:
            self._container.mux(self._video.encode(None))
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._kept(error) from error
        self._closed = True
        try:
            self._finish()
        except (av.error.FFmpegError, OSError) as error:
            raise self._kept(error) from error

    def abandon(self) -> None:
        """Close, and remove what was written. May be called again."""
        self._let_go()
        with suppress(OSError):
            self._growing.unlink(missing_ok=True)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repeat_until(self, place: int, frame: av.VideoFrame) -> None:
        """Encode the picture that waits at every place before ``place``; then ``frame`` waits in its turn."""
        if self._held is not None:
            place = max(place, self._held[1])
            self._release(place)
        self._held = frame, place

    def _release(self, end: int) -> None:
        """Encode the picture that waits at its place and at those after it, up to ``end``."""
        frame, first = self._held
        for place in range(first, end):
            self._encode(frame, place * self._period)

    def _encode(self, frame: av.VideoFrame, ticks: int) -> None:
        frame.pts, frame.time_base = ticks, self._base
        try:
            self._container.mux(self._video.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._kept(error) from error
        if self._last >= 0:
            self._gap = ticks - self._last
        self._last = ticks
        self._flush.written(self._growing)

    def _finish(self) -> None:
        """Make what has grown plain under the final name; if that is interrupted, what has grown takes the name as it
        is."""
        there = self.path.is_file()
        lasts_s = min(float(self._gap * self._base), LONGEST_S)
        try:
            with whole_file(self.path, durable=True) as part:
                try:
                    finish(self._growing, part, self._form, self._rate, self._audio, lasts_s)
                except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                    if self._audio is None:
                        raise
                    self.notice = f"the sound is left out: it can't be copied ({_reason(error)})"
                    finish(self._growing, part, self._form, self._rate, None, lasts_s)
        except BaseException:
            self._growing.replace(self.path)
            raise
        finally:
            self.replaced = self.replaced or there
        self._growing.unlink(missing_ok=True)

    def _kept(self, error: BaseException) -> SinkError:
        """Return the error for an output that can't be written any further, and keep what there is if it can be
        played."""
        self._let_go()
        try:
            if self._growing.exists():
                if self._form != "matroska":
                    cut_to_whole_boxes(self._growing)
                if not measure(self._growing)[0]:
                    raise ValueError
                with suppress(av.error.FFmpegError, OSError):
                    self._finish()
            pictures, seconds = measure(self.path)
        except (av.error.FFmpegError, OSError, ValueError):
            self.abandon()
            return self._unwritable(error)
        return SinkError(
            f"VideoSink: expected room for a whole video, got {str(self.path)!r}: {_reason(error)}; "
            f"its first {pictures} pictures are kept there, up to {seconds:.1f} s; make room and write the rest"
        )

    def _let_go(self) -> None:
        if not self._closed:
            self._closed = True
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()

    def _unwritable(self, error: BaseException) -> SinkError:
        return SinkError(
            f"VideoSink: expected a place to write a video, got {str(self.path)!r}: {_reason(error)}; "
            "choose a folder that exists, may be written to and has room"
        )


def _time_base(rate: Fraction) -> Fraction:
    """Return a tick of which ``1 / rate`` is a whole number, as fine as a broadcast's."""
    if rate.numerator > FINEST:
        return Fraction(1, FINEST)
    return Fraction(1, rate.numerator * math.ceil(FINEST / rate.numerator))


def _reason(error: BaseException) -> object:
    return getattr(error, "strerror", None) or error
