"""`Source`: the interface of every source of frames, whatever it reads."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lowlat.video.remux import AudioTrack

DEFAULT_FPS = Fraction(25)
"""The frames a second of a source that doesn't say."""
HIGH_ROWS = 720
"""From this many rows on, players take a video that doesn't state its colours for BT.709, and videos are written as
BT.709."""
CUT = 40.0
"""Two frames show different scenes if their mean absolute difference is at least this many grey levels."""


def is_cut(before: np.ndarray, frame: np.ndarray) -> bool:
    """Whether two frames of a video, uint8 ``(H, W, 3)``, show different scenes; frames of two sizes always do."""
    return before.shape != frame.shape or bool(np.abs(frame - before.astype(np.float32)).mean() > CUT)


class SourceError(ValueError):
    """Raised for a source that can't be opened, or breaks. Its message says in one line what was expected, what came,
    and the mend.

    Args:
        message: that line.
        reason: the part of it that says what happened; None for all of it.
    """

    def __init__(self, message: str, reason: str | None = None):
        super().__init__(message)
        self.reason = message if reason is None else reason


class Timed(NamedTuple):
    """A frame with its place in the source."""

    frame: np.ndarray
    """uint8 RGB ``(H, W, 3)``."""
    time_s: float
    """Seconds since the source's first frame, by the container's times, or by arrival if the source is live."""
    index: int
    """The frame's number in the source, from 0. Frames that can't be decoded leave gaps."""


class Source:
    """A video's frames in order, uint8 RGB ``(H, W, 3)``. Iterate once, then close it, or use it as a context manager.

    A kind of source implements :meth:`timed`.

    Attributes:
        name: what the user called it.
        fps: frames a second, ``DEFAULT_FPS`` if it doesn't say.
        size: ``(width, height)`` of the first frame, and of all frames unless it was opened with ``any_size``.
        frames: how many there are; None if that can't be known beforehand.
        live: whether frames come at their own pace, whether anybody is ready for them or not.
        untimed: whether it has no times of its own, so that `fps` says when its frames are; then `fps` may be set.
        missing: indices of the frames that could not be decoded, so far.
        pixel_aspect: width over height of one pixel; None if they are square, or it doesn't say.
        audio: its sound, to be copied beside what is made of the frames; None if it has none, or is no file.
        steady_fps: frames a second of an output at a constant rate.
        stems: a name for each frame, as a folder of images has them; None if it has none.
        whole: after the last frame, whether all has come that the source said it would give. A live source that says
            nothing of the kind never has.
    """

    name: str
    fps: Fraction
    size: tuple[int, int]
    frames: int | None
    live: bool
    untimed: bool = False
    pixel_aspect: Fraction | None = None
    audio: AudioTrack | None = None
    whole: bool = False
    missing: list[int]
    stems: list[str] | None = None

    def timed(self) -> Iterator[Timed]:
        """Yield the frames that can be read, with rising times and indices. If the source breaks, :class:`SourceError`
        is raised after them."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames of :meth:`timed` without their times."""
        return (timed.frame for timed in self.timed())

    @property
    def steady_fps(self) -> Fraction:
        return self.fps

    def close(self) -> None:
        """Close the file or device. May be called again."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by(shape: tuple[int, ...]) -> str:
    """Return the size of an array ``(H, W, ...)`` in words, width first: "640x360"."""
    return f"{shape[1]}x{shape[0]}"
