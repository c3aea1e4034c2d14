"""`Video`: one video of a hub. Frames go in, results come out, and both are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lowlat.hub.checks import is_whole
from lowlat.hub.seat import Seat
from lowlat.runtime import Captured, FrameResult
from lowlat.runtime.ending import EngineThread
from lowlat.runtime.stages import checked_frame
from lowlat.schedule import Counts

if TYPE_CHECKING:
    from lowlat.hub.hub import Hub


@dataclass(frozen=True)
class Account:
    """What became of a video's frames. Between two frames, submitted == labelled + dropped + failed + waiting."""

    submitted: int
    labelled: int
    dropped: int
    """Frames whose place a newer one took before their turn, or that waited when the video was closed."""
    failed: int
    """Frames without labels, because a stage raised an error, or S_h of a first frame did."""
    waiting: int
    """Frames in the buffer, at most one, and the frame under way."""
    schedule: Counts
    """Key frames, launches, landings, failures of S_h, ..."""


class Video(AbstractContextManager):
    """One video of a hub, made by :meth:`lowlat.Hub.open`. Its methods may be called from any thread.

    Attributes:
        name: the name that it was opened by.
        fps, size: the rate, in frames a second, and the ``(height, width)`` that it was opened for.
        clock: the clock of every time in its results.
    """

    def __init__(self, hub: Hub, seat: Seat, fps: float, size: tuple[int, int]) -> None:
        self.name, self.fps, self.size, self.clock = seat.name, fps, size, seat.engine.clock
        self._hub, self._seat = hub, seat
        self._submitted = 0
        self._last = -1
        self._submitting = threading.Lock()

    def submit(self, frame: np.ndarray, *, time_s: float | None = None, index: int | None = None) -> bool:
        """Hand in a frame. It takes the place of a frame that is still waiting, so that the newest one wins. Never
        waits.

        Args:
            frame: uint8 RGB ``(H, W, 3)``; it is read later, so don't write to it again.
            time_s: its time in the source, in seconds, which comes back in its result.
            index: its number in the source, which must rise; by default one more than that of the frame before.

        Returns:
            False once the video is closed: the source should stop then.

        Raises:
            ValueError: another kind of array, or an index that does not rise.
            RuntimeError: this process is a fork of the hub's.
        """
        self._hub._runner.check_process()
        checked_frame("Video.submit", frame)
        with self._submitting:
            index = self._last + 1 if index is None else index
            if not is_whole(index, self._last + 1):
                raise ValueError(
                    f"Video.submit: expected an index above {self._last}, got {index!r}; leave it out to count"
                )
            self._last = index
            self._submitted += 1
            taken = self._seat.put(Captured(index, 0.0, frame, time_s))
        self._hub._runner.wake()
        return taken

    def latest(self) -> FrameResult | None:
        """Return the newest result; None before there is one."""
        return self._seat.newest()

    def results(self, stall_s: float | None = None) -> Iterator[FrameResult]:
        """Yield the results that are held and those to come, until the video is closed. A reader that doesn't keep up
        misses the oldest. Several may read, each at its own speed.

        Args:
            stall_s: seconds without a result after which ``TimeoutError`` is raised; None waits for ever.

        Raises:
            RuntimeError: this process is a fork of the hub's.
        """
        self._hub._runner.check_process()
        return self._seat.results(stall_s)

    def __iter__(self) -> Iterator[FrameResult]:
        return self.results()

    @property
    def counts(self) -> Account:
        """What has become of the frames so far."""
        seat = self._seat
        # Submitted frames are counted last, so that one that comes and is answered meanwhile is counted in both.
        labelled, failed, dropped = seat.labelled, seat.failed, seat.buffer.dropped
        submitted = self._submitted
        return Account(
            submitted, labelled, dropped, failed, submitted - labelled - dropped - failed, seat.engine.state.counts
        )

    @property
    def error(self) -> BaseException | None:
        """The last error of a frame or a pass of this video, which goes on nevertheless; None if there was none."""
        return self._seat.error

    @property
    def closed(self) -> bool:
        """Whether the video takes no more frames."""
        return self._seat.gone

    def restart(self) -> None:
        """Forget the key frame, for a source that begins anew; the next frame is a first one."""
        self._hub._runner.call(self._seat.restart)

    def close(self) -> None:
        """Take the video from the hub. The frame under way gets its labels, a frame that waits is dropped, and readers
        come to their end. May be called again."""
        self._hub._leave(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def reader(video: Video, on_result: Callable[[FrameResult], None]) -> EngineThread:
    """Start a thread that calls ``on_result`` with each result. An error that it raises becomes the video's `error`."""
    seat = video._seat

    def read() -> None:
        for result in seat.results():
            try:
                on_result(result)
            except Exception as error:
                seat.error = error

    return EngineThread(f"results of {seat.name}", read)
