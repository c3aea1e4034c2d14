"""Where frames come from: a video file, a folder of images, a camera or a network address."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

DEFAULT_FPS = Fraction(25)
"""Frames a second where the source doesn't say."""
ANSWER_S = 10.0
"""Seconds that a network address may take to answer, and to send the next frame."""
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtp", "udp", "srt"})
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
# FFmpeg reads any text as a film of a terminal.
_NOT_VIDEO = frozenset({"tty"})


class SourceError(ValueError):
    """A source that can't be opened, or breaks: what was expected, what came, the mend, in one line."""


class Source:
    """Frames in order, uint8 RGB ``(H, W, 3)``; iterate once, then close (or use as a context manager).

    Attributes:
        name: what the user called it.
        fps: frames a second, ``DEFAULT_FPS`` where it doesn't say.
        size: ``(width, height)`` of every frame.
        frames: how many there are; None where that can't be known beforehand.
        live: whether frames come at their own pace, whoever is ready for them or not.
    """

    name: str
    fps: Fraction
    size: tuple[int, int]
    frames: int | None
    live: bool

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames; raises :class:`SourceError` where the source breaks, after all that can be read."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file or device. May be called again."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(spec: str | Path, *, resize: tuple[int, int] | None = None) -> Source:
    """Open a source by a command line's words; the first frame is decoded at once: a bad source shows here.

    Args:
        spec: a video file, a folder of images (sorted naturally), a camera's number, or an address
            (``rtsp://``, ``http://``, ``https://``).
        resize: scale every frame to ``(width, height)``.

    Raises:
        SourceError: nothing there, or nothing that can be read as video.
        ValueError: ``resize`` is not two whole numbers of at least 1.
    """
    spec = str(spec)
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise ValueError(f"open_source: expected resize=(width, height) of at least 1, got {resize!r}")
    if address := _ADDRESS.match(spec):
        live = address[1].lower() in LIVE_SCHEMES
        options = {"rtsp_transport": "tcp"} if address[1].lower() == "rtsp" else {}
        return VideoStream(
            spec, spec, "a video stream", resize, live=live, options=options, timeout=(ANSWER_S,) * 2
        )
    if spec.isdecimal():
        return _camera(int(spec), resize)
    path = Path(spec)
    if path.is_dir():
        return ImageFolder(path, resize)
    if not path.exists():
        raise SourceError(
            f"open_source: expected a video file, a folder of images, a camera number or an address, "
            f"found nothing at {spec!r}; check the path"
        )
    # A path with a colon would be read as a protocol.
    return VideoStream(f"file:{path}", spec, "a video file", resize, live=False)


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that counts: ``2.png`` before ``10.png``."""
    return [
        (0, int(part)) if part.isdecimal() else (1, part)
        for part in re.split(r"(\d+)", path.name.lower())
        if part
    ]


def _camera(index: int, resize: tuple[int, int] | None) -> Source:
    if sys.platform not in _CAMERAS:
        raise SourceError(
            f"open_source: expected a camera on {' or '.join(_CAMERAS)}, "
            f"got camera {index} on {sys.platform}; give an address"
        )
    form, pattern = _CAMERAS[sys.platform]
    device = pattern.format(index)
    if device.startswith("/") and not Path(device).exists():
        there = (
            ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*")))
            or "none"
        )
        raise SourceError(
            f"open_source: expected camera {index} at {device}, found no such device (cameras there: "
            f"{there}); plug it in, or write './{index}' for a file of that name"
        )
    return VideoStream(device, f"camera {index}", "a camera", resize, live=True, form=form)


class VideoStream(Source):
    """Whatever PyAV opens, decoded on one thread: the cores are the network's.

    Damaged packets are passed over; a file says at its end that it had some, or that it ended early.
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
    ):
        self.name, self._kind, self._resize = name, kind, resize
        self._lock = threading.Lock()
        self._count = self._damaged = 0
        self._end = Fraction(0)
        try:
            self._container = av.open(address, format=form, options=options or {}, timeout=timeout)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unreadable(_reason(error)) from error
        try:
            if not self._container.streams.video or self._container.format.name in _NOT_VIDEO:
                raise self._unreadable("it holds no video")
            self._stream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1
            self._decoded = self._decode()
            self._first = self._next()
            if self._first is None:
                raise self._unreadable("no frame in it can be decoded")
        except BaseException:
            self._container.close()
            raise
        self.fps = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FPS
        self.size = (self._first.shape[1], self._first.shape[0])
        self.live = live or (timeout is not None and self._container.duration is None)
        seconds = self._seconds()
        self.frames = self._stream.frames or (round(seconds * self.fps) if seconds else None)
        if self.live:
            self.frames = None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        while frame is not None:
            yield frame
            frame = self._next()

    def close(self) -> None:
        # A device that hangs in a read keeps its container: closing it under the reader would crash.
        if self._lock.acquire(timeout=2.0):
            self._container.close()
            self._lock.release()

    def _next(self) -> np.ndarray | None:
        with self._lock:
            return next(self._decoded, None)

    def _decode(self) -> Iterator[np.ndarray]:
        broken = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                broken = _reason(error)
                break
            yield from self._frames_of(packet)
        if broken is not None:
            yield from self._frames_of(None)
        self._check_end(broken)

    def _frames_of(self, packet: av.Packet | None) -> Iterator[np.ndarray]:
        try:
            frames = self._stream.decode(packet)
        except av.error.FFmpegError:
            self._damaged += 1
            return
        for frame in frames:
            if frame.pts is not None:
                lasts = frame.duration * frame.time_base if frame.duration else 1 / DEFAULT_FPS
                self._end = max(self._end, frame.pts * frame.time_base + lasts)
            yield self._rgb(frame)

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._resize or (frame.width, frame.height)
        turns = round(frame.rotation / 90) % 4
        if turns % 2 and self._resize:
            width, height = height, width
        array = frame.to_ndarray(format="rgb24", width=width, height=height)
        if turns:
            array = np.ascontiguousarray(np.rot90(array, turns))
        if self._count and array.shape != self._shape:
            raise SourceError(
                f"VideoStream: expected frames of one size in {self.name}, got {_by(self._shape)} and, "
                f"at frame {self._count}, {_by(array.shape)}; give a size to scale every frame to"
            )
        self._shape = array.shape
        self._count += 1
        return array

    def _seconds(self) -> Fraction | None:
        """How long the video says it is; None where it doesn't."""
        stream = self._stream
        if self._container.format.name == "avi" and stream.frames and stream.average_rate:
            # The index survives where the duration shrinks with the file.
            return stream.frames / stream.average_rate
        if stream.duration:
            return stream.duration * stream.time_base
        if self._container.duration and len(self._container.streams) == 1:
            return Fraction(self._container.duration, av.time_base)
        return None

    def _check_end(self, broken: str | None) -> None:
        if not self._count:
            return
        seconds = self._seconds()
        started = (self._stream.start_time or 0) * self._stream.time_base
        ended = float(self._end - started)
        if broken is not None:
            why = f"it broke off ({broken})"
        elif not self.live and seconds and ended < seconds - max(Fraction(1, 2), seconds / 50):
            why = f"it ends after {ended:.1f} s of {float(seconds):.1f} s"
        elif self._damaged and not self.live:
            why = f"{self._damaged} of its packets can't be decoded"
        else:
            return
        raise SourceError(
            f"VideoStream: expected a whole {self._kind.removeprefix('a ')}, "
            f"got {self.name!r} truncated or damaged: {why}; "
            f"the {self._count} frames that could be read were used, fetch or record it again for the rest"
        )

    def _unreadable(self, why: str) -> SourceError:
        mend = "is it in use, or not a camera?" if self._kind == "a camera" else "is it whole, and a video?"
        return SourceError(
            f"open_source: expected {self._kind}, got {self.name!r}, which can't be read: {why}; {mend}"
        )


class ImageFolder(Source):
    """The images of one folder in natural order, subfolders left out; any readable kind of image, as RGB."""

    def __init__(self, folder: str | Path, resize: tuple[int, int] | None = None):
        self.name, self._resize = str(folder), resize
        try:
            entries = list(Path(folder).iterdir())
        except OSError as error:
            raise SourceError(
                f"open_source: expected a readable folder, got {self.name!r}: {error.strerror}"
            ) from error
        self._paths = sorted(
            (path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES), key=natural_key
        )
        if not self._paths:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(
                f"open_source: expected images ({kinds}) in folder {self.name!r}, found none; check the path"
            )
        first = self._read(self._paths[0])
        self.size = (first.shape[1], first.shape[0])
        self.fps, self.frames, self.live = DEFAULT_FPS, len(self._paths), False

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self._paths:
            array = self._read(path)
            if array.shape[1::-1] != self.size:
                width, height = self.size
                raise SourceError(
                    f"ImageFolder: expected images of one size, got {width}x{height} and "
                    f"{_by(array.shape)} ({path.name}); give a size to scale every image to"
                )
            yield array

    def _read(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                image = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise SourceError(
                f"ImageFolder: expected an image, got {str(path)!r}, which can't be read: "
                f"{_one_line(error)}; remove or replace it"
            ) from error
        return np.array(image.resize(self._resize, Image.Resampling.BILINEAR) if self._resize else image)


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _reason(error: BaseException) -> str:
    if isinstance(error, av.error.ExitError):
        return f"no answer within {ANSWER_S:g} s"
    return getattr(error, "strerror", None) or _one_line(error)
