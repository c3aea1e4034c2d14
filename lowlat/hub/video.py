"""A video of a hub: frames in, results out, and the account of both. What `Hub.open` gives."""

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
    """What became of a video's frames: submitted == labelled + dropped + failed + waiting, at any moment between two
    frames."""

    submitted: int
    labelled: int
    dropped: int
    """A newer frame took their place before their turn, or the video was closed."""
    failed: int
    """A stage raised, or S_h of a first frame: no labels."""
    waiting: int
    """At most one in the buffer, and one whose turn it is."""
    schedule: Counts
    """Key frames, launches, landings, failures of S_h, ..."""


class Video(AbstractContextManager):
    """One video of a hub; made by :meth:`lowlat.Hub.open`.

    Its methods may be called from any thread.

    Attributes:
        name: what it was opened as.
        fps, size: frames a second, and their ``(height, width)``, that it was opened for.
        clock: the clock of every time in its results.
    """

    def __init__(self, hub: Hub, seat: Seat, fps: float, size: tuple[int, int]) -> None:
        self.name, self.fps, self.size, self.clock = seat.name, fps, size, seat.engine.clock
        self._hub, self._seat = hub, seat
        self._submitted = 0
        self._last = -1
        self._submitting = threading.Lock()

    def submit(self, frame: np.ndarray, *, time_s: float | None = None, index: int | None = None) -> bool:
        """Hands a frame in and never waits. It takes the place of one that is still waiting: the newest frame wins.

        Args:
            frame: uint8 RGB ``(H, W, 3)``; read later, so don't write to it again.
            time_s: its time in the source, in seconds; comes back in its result.
            index: its number in the source, rising; by default one more than that of the frame before.

        Returns:
            False once the video is closed, when the source should stop.

        Raises:
            ValueError: no such frame, or an index that does not rise.
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
        """The newest result; None before there is one."""
        return self._seat.newest()

    def results(self, stall_s: float | None = None) -> Iterator[FrameResult]:
        """The results that are held and those to come, until the video is closed. A reader that does not keep up misses
        the oldest; several may read, each at its own speed.

        Args:
            stall_s: seconds without a result after which ``TimeoutError`` is raised; None waits on.

        Raises:
            RuntimeError: this process is a fork of the hub's.
        """
        self._hub._runner.check_process()
        return self._seat.results(stall_s)

    def __iter__(self) -> Iterator[FrameResult]:
        return self.results()

    @property
    def counts(self) -> Account:
        """What became of the frames so far."""
        seat = self._seat
        # Those submitted last: a frame that comes and is answered meanwhile is not answered before it came.
        labelled, failed, dropped = seat.labelled, seat.failed, seat.buffer.dropped
        submitted = self._submitted
        return Account(
            submitted, labelled, dropped, failed, submitted - labelled - dropped - failed, seat.engine.state.counts
        )

    @property
    def error(self) -> BaseException | None:
        """What was raised last for a frame or a pass of this video; it goes on."""
        return self._seat.error

    @property
    def closed(self) -> bool:
        """Whether it takes no more frames."""
        return self._seat.gone

    def restart(self) -> None:
        """Forgets the key frame, for a source that begins anew: the next frame is a first one."""
        self._hub._runner.call(self._seat.restart)

    def close(self) -> None:
        """Takes the video from the hub: the frame under way gets its labels, one that waits is dropped, readers come to
        their end. May be called again."""
        self._hub._leave(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def reader(video: Video, on_result: Callable[[FrameResult], None]) -> EngineThread:
    """A thread that calls ``on_result`` with each result; what that raises is the video's `error`."""
    seat = video._seat

    def read() -> None:
        for result in seat.results():
            try:
                on_result(result)
            except Exception as error:
                seat.error = error

    return EngineThread(f"results of {seat.name}", read)
