"""`Reading` reads one source of frames on a thread of its own for ever: it waits for a source that is lost, and begins
a recording again when it ends."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from lowlat.jobs.cameras import in_one_line
from lowlat.video.address import scheme_of, shown
from lowlat.video.frames import Source, SourceError
from lowlat.video.pipe import is_pipe
from lowlat.video.reconnect import FIRST_PAUSE_S, LONGEST_PAUSE_S, ReconnectingSource, opened_within, refused
from lowlat.video.source import STALL_S, open_source

STATES = ("opening", "live", "lost", "ended", "refused")
"""What a source may be: not open yet; giving frames; lost or not there, and tried again; ended; or refused, when a
camera does not take the name and password, and is not tried again."""


class Known(NamedTuple):
    """What a recording says of itself: its frames a second, and their ``(height, width)``."""

    fps: float
    size: tuple[int, int]


def check_source(spec: str) -> Known | None:
    """Open a recording and close it again, so that a wrong path shows at once. A camera or an address, which may be
    there later, is left alone, and nothing is known of it.

    Raises:
        SourceError: it is standard input, or no video.
    """
    if is_pipe(spec):
        raise SourceError("serve: expected a source that can be opened again, got '-' for standard input; name a file")
    if not scheme_of(spec) and not spec.isdecimal():
        with open_source(spec, any_size=True) as source:
            return Known(float(source.fps), source.size[::-1])
    return None


class Reading:
    """Hands on every frame of a source at the source's own pace, of a recording by the times of its frames.

    Args:
        spec: the source, as `open_source` takes it.
        submit: takes a frame, uint8 RGB ``(H, W, 3)``, and its time in the source, in s; it must not wait.
        stall_s: seconds without a frame after which an address counts as lost.
        repeat: whether a recording begins again when it ends.
        say: is called with one line for each loss and each return.
    """

    def __init__(
        self,
        spec: str,
        submit: Callable[[np.ndarray, float], object],
        *,
        stall_s: float = STALL_S,
        repeat: bool = True,
        say: Callable[[str], None],
    ) -> None:
        self.name = shown(spec)
        self._spec, self._submit, self._stall_s, self._repeat, self._say = spec, submit, stall_s, repeat, say
        self._state, self._reason = "opening", ""
        self._closing, self._source = threading.Event(), None
        self._thread = threading.Thread(target=self._run, name=f"read {self.name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "lost" if self._away() else self._state

    @property
    def reason(self) -> str:
        """Why the source is lost or refused, with its passwords masked; empty otherwise."""
        source = self._source
        if self._away() and isinstance(source, ReconnectingSource):
            gaps = source.gaps
            return gaps[-1].reason if gaps else ""
        return self._reason

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop reading. A source that hangs in a read keeps its thread, which ends with the read or with the
        program."""
        self._closing.set()
        source = self._source
        if isinstance(source, ReconnectingSource):
            # The thread may be waiting for its camera.
            source.stop()
        self._thread.join(timeout_s)

    def _away(self) -> bool:
        source = self._source
        return isinstance(source, ReconnectingSource) and source.away

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                with self._opened() as self._source:
                    self._state, self._reason = "live", ""
                    self._hand_on(self._source)
                    over = self._source.live or not self._repeat
                self._source = None
                if over or self._closing.is_set():
                    self._state = "ended"
                    return
                pause = FIRST_PAUSE_S
                # A recording that lasts no time would be opened again and again without a pause.
                self._closing.wait(max(0.0, 0.05 - (time.monotonic() - began)))
            except Exception as error:
                self._source = None
                if self._closing.is_set():
                    return
                self._reason = in_one_line(error)
                if refused(error):
                    self._state = "refused"
                    self._say(f"{self.name} refuses: {self._reason}")
                    return
                self._state = "lost"
                self._say(f"{self.name} is lost: {self._reason}; trying again")
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _opened(self) -> Source:
        options = {"any_size": True, "reconnect_s": math.inf, "stall_s": self._stall_s, "say": self._say}
        opening = partial(self._open, **options)
        return opened_within(math.inf, opening, self.name, say=self._say, sleep=self._wait)

    def _open(self, **options) -> Source:
        try:
            return open_source(self._spec, **options)
        except SourceError as error:
            self._state, self._reason = "lost", in_one_line(error)
            raise

    def _wait(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise SourceError(f"serve: expected a source to wait for, got {self.name!r} closed; open it again")

    def _hand_on(self, source: Source) -> None:
        began = time.monotonic()
        for timed in source.timed():
            if not source.live:
                ahead = began + timed.time_s - time.monotonic()
                # A reader that is late stays late, since frames never come faster than the source's own pace.
                began -= min(ahead, 0.0)
                self._closing.wait(max(ahead, 0.0))
            if self._closing.is_set():
                return
            self._submit(timed.frame, timed.time_s)
