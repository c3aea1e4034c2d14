"""Numbers and times of a container's frames, from its packets, for `ContainerSource`."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import av

from lowlat.runtime.words import counted
from lowlat.video.remux import ANEW_S

STEP_BACK_S = 1.0
"""Seconds by which times go back if a source has begun anew; by less, a frame has a wrong stamp."""
TICK_S = 0.001
"""Seconds that are put between two frames of the same time."""


class Numbering:
    """Numbers frames by the packets of their stream, in the order in which they are shown; a packet without a frame
    leaves a gap.

    Args:
        joined: whether a stream may begin between its key frames, as a broadcast does. Then frames before the first one
            that can be decoded are no part of it.

    Attributes:
        missing: numbers of the frames that could not be decoded, so far.
        start: the earliest time stamp, in the stream's ticks; None before the first frame, or if no frame has a time
            stamp.
        part: how often the stream had begun anew when the last frame was sent.
    """

    def __init__(self, joined: bool) -> None:
        self.missing: list[int] = []
        self.start: int | None = None
        self.part = 0
        self._joined = joined
        # Packets by their part of the stream and their time stamp.
        self._waiting: list[tuple[int, int]] = []
        self._broken: set[tuple[int, int]] = set()
        self._part = 0
        self._decoded_at: int | None = None
        self._fields = False
        self._next = 0

    def packet(self, packet: av.Packet) -> None:
        """Take note of a packet before it is decoded."""
        if packet.dts is not None:
            before, self._decoded_at = self._decoded_at, packet.dts
            back = 0 if before is None else before - packet.dts
            self._part += packet.is_keyframe and back * packet.time_base > ANEW_S
        if packet.pts is not None and packet.size and not packet.is_discard and not _hidden(packet):
            heappush(self._waiting, (self._part, packet.pts))

    def broken(self, packet: av.Packet) -> None:
        """Take note of a packet that can't be decoded."""
        if packet.pts is not None:
            self._broken.add((self._part, packet.pts))
        elif not self._joined or self._next:
            self._skip()

    def frame(self, frame: av.VideoFrame) -> int:
        """Return the number of a frame. Frames before it that have not come are missing."""
        pts = frame.pts
        # Two packets may hold the two fields of one frame: only errors tell that one is missing.
        self._fields = self._fields or frame.interlaced_frame
        earlier, known = [], False
        if pts is not None:
            # The decoder may hold frames back from before a new beginning.
            later = range(self.part, self._part + 1)
            self.part = next((part for part in later if (part, pts) in self._waiting), self.part)
            place = self.part, pts
            while self._waiting and self._waiting[0] < place:
                earlier.append(heappop(self._waiting))
            while self._waiting and self._waiting[0] == place:
                known = bool(heappop(self._waiting))
        first = self.start is None and not self._next
        if not (first and self._joined):
            counted = self._lost(earlier, known)
            self.start = min([stamp for _, stamp in counted] + [pts]) if first and pts is not None else self.start
        elif pts is not None:
            self.start = pts
        self._next += 1
        return self._next - 1

    def end(self) -> None:
        """Take note that the stream has ended: frames that have not come are missing."""
        if self._next:
            self._lost(sorted(self._waiting), True)
        self._waiting.clear()

    def _lost(self, places: Sequence[tuple[int, int]], known: bool) -> list[tuple[int, int]]:
        """Count the frames at these places that are ``known`` as missing, and return them."""
        lost = [place for place in places if place in self._broken or (known and not self._fields)]
        for _ in lost:
            self._skip()
        return lost

    def _skip(self) -> None:
        self.missing.append(self._next)
        self._next += 1


class Times:
    """Seconds since a source's first frame, which rise whatever the time stamps do.

    Attributes:
        shift: seconds by which they are later than the stamps, because the source has begun anew.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self.shift = 0.0

    def at(self, stamp_s: float, usual_s: float, *, anew: bool = False) -> float:
        """Return the time of a frame in seconds.

        Args:
            stamp_s: seconds since the first frame by the frame's time stamp.
            usual_s: seconds from one frame to the next, for a source that begins anew.
            anew: whether the source begins anew with this frame. It is taken to do so, too, if times go back by a lot.
        """
        time_s = stamp_s + self.shift
        back = 0.0 if self._last is None else self._last - time_s
        if self._last is not None and (anew or back > STEP_BACK_S):
            self.shift += back + usual_s
            time_s = stamp_s + self.shift
        elif self._last is not None and back >= 0:
            time_s = self._last + TICK_S
        self._last = time_s
        return time_s


def listed(numbers: Sequence[int]) -> str:
    """Return numbers in words, neighbours drawn together: "3, 10 to 12"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join(" to ".join(map(str, run)) for run in runs)


def missing_line(name: str, missing: Sequence[int]) -> str:
    """One line that says which frames of a source could not be decoded."""
    return f"{name}: {counted(len(missing), 'frame')} could not be decoded: {listed(missing)}"


def _hidden(packet: av.Packet) -> bool:
    """Whether a packet holds a VP8 frame that others are predicted from and that is never shown."""
    return packet.stream.codec_context.name in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10
