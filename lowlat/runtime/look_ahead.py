"""`LookAhead`: frames on their way to an `Engine`, which may begin the next one early if its stages are pipelined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lowlat.runtime.buffer import Captured
from lowlat.runtime.protocols import Pipelined


class LookAhead:
    """Iterates over the frames of one run. If they have `take_waiting`, as a `FrameBuffer` has, one can begin early."""

    def __init__(self, stages: Pipelined | None, frames: Iterable[Any]) -> None:
        self._stages, self._frames = stages, frames
        self._take_waiting = getattr(frames, "take_waiting", None) if stages is not None else None
        # The frame that was taken early, until its turn comes; and the frame that was begun, with its F_l under way.
        self._taken: Captured | None = None
        self._begun: tuple[Any, Any] | None = None

    def onto(self, frames: Iterable[Any]) -> LookAhead:
        """Returns the frames of another run, after the frame that this run has taken early and not yielded."""
        other = LookAhead(self._stages, frames)
        other._taken, other._begun = self._taken, self._begun
        return other

    def __iter__(self) -> Iterator[Any]:
        coming, end = iter(self._frames), object()
        while True:
            frame, self._taken = self._taken, None
            if frame is None and (frame := next(coming, end)) is end:
                return
            yield frame

    def begin_waiting(self) -> None:
        """Begins the next frame, if it is there, while the labels of the current frame are under way."""
        if self._take_waiting is None or self._taken is not None:
            return
        self._taken = self._take_waiting()
        if self._taken is not None:
            try:
                self._begun = (self._taken.frame, self._stages.begin(self._taken.frame, self._taken.index))
            except Exception:
                # The frame will be begun again in its turn, and raise then; the current frame is sound.
                self._begun = None

    def lowered(self, frame: Any) -> Any | None:
        """Returns F_l of `frame`, once, if it was begun early; otherwise None."""
        begun, self._begun = self._begun, None
        return begun[1] if begun is not None and begun[0] is frame else None

    def forget(self) -> None:
        """Has the frame that was begun early begun again when its turn comes."""
        self._begun = None
