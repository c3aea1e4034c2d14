"""`ContainerSource` makes whatever FFmpeg can open a source of frames: files, cameras, network addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from lowlat.runtime.words import counted
from lowlat.video.frames import DEFAULT_FPS, HIGH_ROWS, Source, SourceError, Timed, by
from lowlat.video.places import Numbering, Times, listed
from lowlat.video.remux import AudioTrack

ANSWER_S = 10.0
"""Seconds that a network address has to answer, and then to send each frame."""
MOST_FPS = Fraction(60)
"""Frames a second that an output at a constant rate has at most, where the rate of the source varies."""
# FFmpeg's format `tty` takes any text file for a recording of a terminal.
_NOT_VIDEO = frozenset({"tty"})
# FFmpeg's flag of formats that hold pictures and no times: AVFMT_NOTIMESTAMPS.
_NO_TIMES = 0x80
_MENDS = (
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "check the name and password in it"),
    ((av.error.HTTPNotFoundError,), "check what follows the server's name in it"),
    ((av.error.HTTPServerError,), "the fault is the server's: try again later"),
)
"""What helps where a server says why it gives no video."""
_COVER = av.stream.Disposition.attached_pic
# FFmpeg's matrix for colours that are not stated: AVCOL_SPC_UNSPECIFIED.
_UNSAID = 2


class ContainerSource(Source):
    """Frames of whatever PyAV opens, decoded on one thread: the other cores are left to the network.

    Damaged packets are passed over. A file that had some, or that ended early, raises :class:`SourceError` after its
    last frame. Reading on after ``close``, on whatever thread, raises one too.

    Args:
        address: what FFmpeg opens.
        name: what the user called it, for messages.
        kind: what it should be, for messages: "a camera", "a video file" or "a video at an address".
        resize: ``(width, height)`` to scale every frame to; None keeps its own.
        live: whether frames come at their own pace. An address without a duration is live too.
        form: FFmpeg's name of the input format; None to find it out.
        options: FFmpeg's options for opening it.
        timeout: seconds to open it, and to read from it; None for no limit.
        any_size: hand out frames of other sizes than the first as they come; otherwise they are an error.

    Raises:
        SourceError: it can't be opened, holds no video, or its first frame can't be decoded.
    """

    def __init__(
        self,
        address: str,
        name: str,
        kind: str,
        resize: tuple[int, int] | None = None,
        *,
        live: bool,
        form: str | None = None,
        options: dict[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
        any_size: bool = False,
    ):
        self.name, self._kind, self._resize, self._any_size = name, kind, resize, any_size
        self._lock, self._closed = threading.Lock(), False
        self._open_s, self._stall_s = timeout or (None, None)
        self._count = self._damaged = 0
        self._end, self._times = Fraction(0), Times()
        # The last frame's time stamp in seconds, its number, and its part of a stream that begins anew.
        self._stamp, self._index, self._part = Fraction(0), 0, 0
        self.live, self._arrived = live, None
        try:
            self._container = av.open(address, format=form, options=options or {}, timeout=timeout)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unreadable(_reason(error, self._open_s), error) from error
        try:
            videos = [video for video in self._container.streams.video if not video.disposition & _COVER]
            if not videos or self._container.format.name in _NOT_VIDEO:
                raise self._unreadable("it holds no video")
            # A preview of one picture may come before the video.
            self._video = next((video for video in videos if video.frames != 1), videos[0])
            self._video.codec_context.thread_count = 1
            self.live = live or (timeout is not None and self._container.duration is None)
            # Asking a closed container would crash.
            self._guessed = self._video.guessed_rate
            self.fps = self._video.average_rate or self._guessed or DEFAULT_FPS
            self.untimed = bool(self._container.format.flags & _NO_TIMES)
            # A broadcast, or a recording of one, may begin anywhere.
            self._numbering = Numbering(joined=self.live or self._container.format.name.startswith("mpeg"))
            self.missing = self._numbering.missing
            self._decoded = self._decode()
            first = self._next()
            if first is None:
                raise self._unreadable("no frame in it can be decoded")
            self._decoded = chain((first,), self._decoded)
        except BaseException:
            self._container.close()
            raise
        self.size = (first.frame.shape[1], first.frame.shape[0])
        self.pixel_aspect = self._pixel_aspect()
        self.audio = self._audio(address)
        length = self._seconds()
        self.frames = self._video.frames or (round(length * self.fps) if length else None)
        if self.live:
            self.frames = None

    def timed(self) -> Iterator[Timed]:
        while (timed := self._next()) is not None:
            yield timed

    @property
    def steady_fps(self) -> Fraction:
        # The mean of a varying rate says little; the rate that its times are multiples of may be that of their ticks.
        fitting = self._guessed
        return fitting if fitting and self.fps < fitting <= MOST_FPS and not self.untimed else min(self.fps, MOST_FPS)

    def close(self) -> None:
        self._closed = True
        # Closing a container that another thread reads would crash: a device that hangs in a read keeps its own open.
        if self._lock.acquire(timeout=2.0):
            self._container.close()
            self._lock.release()

    def _next(self) -> Timed | None:
        with self._lock:
            if self._closed:
                # Reading a closed container would crash.
                raise SourceError(
                    f"ContainerSource: expected an open source to read, got {self.name!r} closed; close it after its "
                    "last frame, or open it again"
                )
            return next(self._decoded, None)

    def _decode(self) -> Iterator[Timed]:
        broken = None
        packets = self._container.demux(self._video)
        quiet_since = time.monotonic()
        while broken is None:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                broken = _reason(error, self._stall_s)
                break
            for timed in self._frames_of(packet):
                yield timed
                quiet_since = time.monotonic()
            if self.live and self._stall_s and time.monotonic() - quiet_since > self._stall_s:
                broken = f"no frame within {self._stall_s:g} s that can be decoded"
        if broken is not None:
            yield from self._frames_of(None)
        self._numbering.end()
        if self.audio is not None:
            self.audio.whole = True
        self._check_end(broken)

    def _frames_of(self, packet: av.Packet | None) -> Iterator[Timed]:
        arrived = self._arrival()
        if packet is not None:
            self._numbering.packet(packet)
        try:
            frames = self._video.decode(packet)
        except av.error.FFmpegError:
            self._damaged += 1
            if packet is not None:
                self._numbering.broken(packet)
            return
        # The frames that the decoder held back until the end have no time base.
        tick = self._video.time_base
        for frame in frames:
            if frame.pts is not None:
                lasts = frame.duration * tick if frame.duration else 1 / DEFAULT_FPS
                self._end = max(self._end, frame.pts * tick + lasts)
            array, index = self._rgb(frame), self._numbering.frame(frame)
            yield Timed(array, self._time(frame, index, arrived), index)

    _arrival = staticmethod(time.monotonic)

    def _time(self, frame: av.VideoFrame, index: int, arrived: float) -> float:
        usual = 1 / self.fps
        if self.live:
            self._arrived = arrived if self._arrived is None else self._arrived
            return self._times.at(arrived - self._arrived, float(usual))
        numbering, tick = self._numbering, self._video.time_base
        # A frame that has no stamp comes a period after the one before it.
        stamp = self._stamp + (index - self._index) * usual
        if not self.untimed and frame.pts is not None:
            if numbering.start is None:
                numbering.start = frame.pts - round(stamp / tick)
            stamp = (frame.pts - numbering.start) * tick
        anew, self._part = numbering.part != self._part, numbering.part
        self._stamp, self._index = stamp, index
        time_s = self._times.at(float(stamp), float(usual), anew=anew)
        if anew and self.audio is not None:
            self.audio.shifts.append(self._times.shift)
        return time_s

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._resize or (frame.width, frame.height)
        turns = round(frame.rotation / 90) % 4
        if turns % 2 and self._resize:
            width, height = height, width
        # FFmpeg takes every video that states nothing for BT.601.
        unsaid = frame.colorspace == _UNSAID and frame.height >= HIGH_ROWS
        colours = {"src_colorspace": Colorspace.ITU709} if unsaid else {}
        array = frame.to_ndarray(format="rgb24", width=width, height=height, **colours)
        if turns:
            array = np.ascontiguousarray(np.rot90(array, turns))
        if self._count and array.shape != self._shape and not self._any_size:
            raise SourceError(
                f"ContainerSource: expected frames of one size in {self.name}, got {by(self._shape)} and, "
                f"at frame {self._count}, {by(array.shape)}; give a size to scale every frame to",
                f"its frames became {by(array.shape)} after {by(self._shape)}",
            )
        self._shape, self._coded, self._turned = array.shape, (frame.width, frame.height), turns % 2 == 1
        self._count += 1
        return array

    def _audio(self, address: object) -> AudioTrack | None:
        # Sound is read a second time, which neither a camera nor a pipe allows.
        file = isinstance(address, str) and Path(address.removeprefix("file:")).is_file()
        if not file or not self._container.streams.audio:
            return None
        start = (self._numbering.start or 0) * self._video.time_base
        return AudioTrack(address, self._container.streams.audio[0].codec_context.name, start)

    def _pixel_aspect(self) -> Fraction | None:
        """Return width over height of a pixel of what comes out: scaling keeps the shape of the picture, turning turns
        it."""
        stated = self._video.sample_aspect_ratio
        if not stated or stated == 1:
            return None
        width, height = self._coded
        if self._turned:
            width, height, stated = height, width, 1 / stated
        return stated * Fraction(width, height) / Fraction(*self.size)

    def _seconds(self) -> Fraction | None:
        """Return the length that the file states, in seconds, or None if it states none."""
        video = self._video
        if self._container.format.name == "avi" and video.frames and video.average_rate:
            # FFmpeg takes the duration of a cut AVI file from what is left of it; its index still counts all frames.
            return video.frames / video.average_rate
        if video.duration:
            return video.duration * video.time_base
        if self._container.duration and len(self._container.streams) == 1:
            # Matroska counts from 0, not from the first frame.
            late = self._container.format.name.startswith("matroska") and self._container.start_time or 0
            return Fraction(self._container.duration - late, av.time_base)
        return None

    def _check_end(self, broken: str | None) -> None:
        if not self._count:
            return
        length = self._seconds()
        started = (self._video.start_time or 0) * self._video.time_base
        ended = float(self._end - started)
        cut = length and ended < length - max(Fraction(1, 5), length / 50)
        self.whole = broken is None and not cut and (length is not None or self._container.size > 0)
        if broken is not None:
            why = f"it broke off ({broken})"
        elif not self.live and cut:
            why = f"it ends after {ended:.1f} s of {float(length):.1f} s"
        elif self._damaged and not self.live:
            why = f"{self._damaged} of its packets can't be decoded"
        else:
            return
        if self.missing:
            why += f" (missing: {listed(self.missing)})"
        raise SourceError(
            f"ContainerSource: expected a whole {self._kind.removeprefix('a ')}, "
            f"got {self.name!r} truncated or damaged: {why}; "
            f"fetch or record it again for more than the {counted(self._count, 'frame')} that can be read",
            why,
        )

    def _unreadable(self, why: str, error: Exception | None = None) -> SourceError:
        mend = "is it in use, or not a camera?" if self._kind == "a camera" else "is it whole, and a video?"
        mend = next((words for kinds, words in _MENDS if isinstance(error, kinds)), mend)
        return SourceError(
            f"open_source: expected {self._kind}, got {self.name!r}, which can't be read: {why}; {mend}", why
        )


def _reason(error: BaseException, limit_s: float | None) -> str:
    if isinstance(error, av.error.ExitError) and limit_s is not None:
        return f"no answer within {limit_s:g} s"
    return getattr(error, "strerror", None) or " ".join(str(error).split())
