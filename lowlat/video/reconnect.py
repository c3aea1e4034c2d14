"""`ReconnectingSource` is a live source that comes back: where it breaks off, it is opened again."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av

from lowlat.runtime.words import counted
from lowlat.video.frames import Source, SourceError, Timed, by

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Seconds before the first attempt to open a source again; each pause is twice the one before, up to the longest."""
STEADY_S = 10.0
"""Seconds that a connection must have lasted for the pauses to begin anew: a camera that hangs up on everyone at once
is not asked twice a second for ever."""


@dataclass(frozen=True)
class Gap:
    """A time without the source, in seconds since its first frame.

    Attributes:
        start_s: time of the last frame before.
        end_s: time of the first frame after; None while, or if, there is none.
        seconds: how long it lasted, or has lasted.
        reason: why the source was lost.
    """

    start_s: float
    end_s: float | None
    seconds: float
    reason: str

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        end = None if self.end_s is None else round(self.end_s, 3)
        return {"from": round(self.start_s, 3), "to": end, "seconds": round(self.seconds, 3), "reason": self.reason}


def say_on_stderr(line: str) -> None:
    """Print a line on standard error, as the command line does."""
    print(f"lowlat: {line}", file=sys.stderr, flush=True)


def opened_within(
    wait_s: float,
    opening: Callable[[], Source],
    name: str,
    *,
    say: Callable[[str], None] = say_on_stderr,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Source:
    """Open a live source that need not be there yet: try again and again for ``wait_s`` seconds.

    A source that refuses the name and password that were given is not tried again, since cameras shut out whoever goes
    on.

    Args:
        wait_s: 0 tries once, infinity for ever.
        opening: opens the source; raises :class:`SourceError` if that fails.
        name: what messages call the source.
        say: gets a line when the waiting begins, and one when it has ended well.
        clock: gives the time in seconds.
        sleep: waits for so many seconds.

    Raises:
        SourceError: the source can't be opened, and the time is over.
    """
    began, pause, waited = clock(), FIRST_PAUSE_S, False
    while True:
        try:
            source = opening()
        except SourceError as error:
            left = began + wait_s - clock()
            if left <= 0 and waited:
                raise SourceError(f"{error} (tried for {wait_s:g} s, as --reconnect says)", error.reason) from error
            if left <= 0 or refused(error):
                raise
            if not waited:
                for_how_long = "" if math.isinf(wait_s) else f" for {wait_s:g} s"
                say(f"{name} is not there: {error.reason}; trying again{for_how_long}")
            waited = True
            sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE_S)
        else:
            if waited:
                say(f"{name} is there after {clock() - began:.1f} s")
            return source


_REFUSALS = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError, av.error.ProtocolNotFoundError)


def refused(error: BaseException) -> bool:
    """Whether a source could not be opened because it does not take the name and password, or the kind of address."""
    return isinstance(error.__cause__, _REFUSALS)


class ReconnectingSource(Source):
    """A live source that is opened again whenever it breaks off, ends or falls silent; times and indices go on.

    Across a gap time goes on by the clock, and the first frame after it has the index after that of the last frame
    before it. It may be of another size. Sources that end because all of them has come, as a file at an address does,
    are not opened again, and who is refused by name and password then is not tried again.

    Args:
        opening: opens it; raises :class:`SourceError` where that fails.
        source: what it has opened already; None to have it opened here.
        reconnect_s: seconds after which a lost source is given up; 0 gives it up at once, infinity never.
        say: gets one line for each loss and each return.
        clock: seconds, rising.

    Raises:
        SourceError: it can't be opened.
    """

    def __init__(
        self,
        opening: Callable[[], Source],
        source: Source | None = None,
        *,
        reconnect_s: float = math.inf,
        say: Callable[[str], None] = say_on_stderr,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._open, self._reconnect_s, self._say, self._clock = opening, reconnect_s, say, clock
        self._closing = threading.Event()
        self._pause = FIRST_PAUSE_S
        self._lost_at: float | None = None
        self._given_up = False
        self._gaps: list[Gap] = []
        self._missing: list[int] = []
        # How many frames came, and the indices of this connection's first one and of the next one.
        self._count = self._first = self._next = 0
        self._source = opening() if source is None else source
        self._time_s, self._arrival = 0.0, clock()
        self.name, self.fps, self.size = self._source.name, self._source.fps, self._source.size
        self.frames, self.live = None, True
        self.untimed, self.pixel_aspect = self._source.untimed, self._source.pixel_aspect
        self._steady_fps = self._source.steady_fps

    @property
    def steady_fps(self) -> Fraction:
        return self._steady_fps

    @property
    def away(self) -> bool:
        """Whether the source is lost and being waited for."""
        return self._lost_at is not None

    @property
    def gaps(self) -> list[Gap]:
        """The times without the source so far, the present one among them."""
        gaps = list(self._gaps)
        if gaps and gaps[-1].end_s is None and not self._given_up:
            gaps[-1] = self._gap_until(None)
        return gaps

    @property
    def missing(self) -> list[int]:
        """Indices of frames that could not be decoded, so far."""
        return self._missing + ([] if self.away else [self._first + index for index in self._source.missing])

    def timed(self) -> Iterator[Timed]:
        """Yield the frames as they come, from one connection after the other.

        Raises:
            SourceError: the source is lost and given up, refuses the name and password, or was closed while it was
                read.
        """
        going_on = True
        while going_on:
            connected = self._clock()
            try:
                yield from self._frames()
                if self._source.whole:
                    return
                reason = "it ended"
            except (SourceError, OSError) as error:
                if self._closing.is_set():
                    raise
                reason = _reason(error)
            if self._clock() - connected > STEADY_S:
                self._pause = FIRST_PAUSE_S
            going_on = self._lost(reason)

    def close(self) -> None:
        self._closing.set()
        self._source.close()

    def stop(self) -> None:
        """Have the thread that waits for the source give it up, from another thread, which must not close it."""
        self._closing.set()

    def _frames(self) -> Iterator[Timed]:
        """Yield the frames of one connection."""
        offset = None
        for frame, time_s, index in self._source.timed():
            arrival = self._clock()
            if offset is None:
                offset = 0.0
                if self.away:
                    comes_at = self._time_s + arrival - self._arrival
                    offset = comes_at - time_s
                    self._returned(frame.shape, comes_at)
            self._time_s, self._arrival = time_s + offset, arrival
            self._count, self._next = self._count + 1, self._first + index + 1
            yield Timed(frame, self._time_s, self._first + index)

    def _lost(self, reason: str) -> bool:
        """Wait for the source. Returns False if it has ended for good."""
        self._source.close()
        self._missing = self.missing
        self._first = max([self._next, *(index + 1 for index in self._missing)])
        what = f"{self.name!r}, which was lost after {self._time_s:.1f} s and {counted(self._count, 'frame')}: {reason}"
        if self._reconnect_s == 0:
            raise SourceError(
                f"open_source: expected a live source that goes on, got {what}; the "
                f"{counted(self._count, 'frame')} before went out, --reconnect SECONDS has the source waited for"
            )
        for_how_long = "" if math.isinf(self._reconnect_s) else f" for {self._reconnect_s:g} s"
        self._say(f"{self.name} is lost after {self._time_s:.1f} s: {reason}; trying again{for_how_long}")
        if not self.away:
            self._gaps.append(Gap(self._time_s, None, 0.0, reason))
            self._lost_at = self._clock()
        self._source = self._opened(what)
        if not self._source.live:
            self._say(f"{self.name} has ended: what is there is its recording")
            return False
        return True

    def _opened(self, what: str) -> Source:
        """Try to open the source, again and again, until it is there, given up, or takes the password no longer."""
        reason = "no answer"
        while True:
            left = self._lost_at + self._reconnect_s - self._clock()
            if left <= 0:
                self._give_up()
                raise SourceError(
                    f"open_source: expected a live source that comes back within {self._reconnect_s:g} s, got {what}; "
                    f"it could not be opened again ({reason}): check it, or raise --reconnect"
                )
            stopped = self._closing.wait(min(self._pause, left))
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            if not stopped:
                try:
                    source = self._open()
                except (SourceError, OSError) as error:
                    reason = _reason(error)
                    if refused(error):
                        self._give_up()
                        raise SourceError(
                            f"open_source: expected a live source that lets in again who it has let in before, got "
                            f"{what}; it refuses now ({reason}): check the name and password, and begin again",
                            reason,
                        ) from error.__cause__
                    continue
                if not self._closing.is_set():
                    return source
                source.close()
            raise SourceError(
                f"ReconnectingSource: expected an open source to wait for, got {self.name!r} closed; open it again"
            )

    def _give_up(self) -> None:
        self._gaps[-1], self._given_up = self._gap_until(None), True

    def _returned(self, shape: tuple[int, ...], time_s: float) -> None:
        """Note the first frame after a gap."""
        self._gaps[-1] = self._gap_until(time_s)
        self._lost_at = None
        size = f", {by(shape)} now, {by(self.size[::-1])} at first" if shape[1::-1] != self.size else ""
        self._say(f"{self.name} is back after {self._gaps[-1].seconds:.1f} s{size}")

    def _gap_until(self, end_s: float | None) -> Gap:
        lost = self._gaps[-1]
        return replace(lost, end_s=end_s, seconds=self._time_s + self._clock() - self._arrival - lost.start_s)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, SourceError) else " ".join(str(error).split())
