"""What stands between a video's engine and its hub: stages whose first frame is worked on beforehand, and a worker that
queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lowlat.runtime.protocols import Job, KeyFrame, Outcome
from lowlat.schedule import Signal

if TYPE_CHECKING:
    from lowlat.hub.seat import Seat


class Started:
    """The stages of one video, as `StartStages`: its first frame is worked on before the engine asks for it.

    Args:
        stages: the network's stages, which all videos share.
    """

    def __init__(self, stages: Any) -> None:
        self._stages = stages
        self._frame: Any = None
        self._low: Any = None
        self._outcome: tuple[Any, BaseException | None] | None = None

    def prepare(self, size: Any) -> None: ...

    def preparation(self, frame: Any) -> None: ...

    def release(self) -> None: ...

    def start(self, frame: Any, index: int) -> Any:
        self._outcome = None
        self._frame, self._low = frame, self._stages.lower(frame)
        return self._low

    def started(self, high: Any, error: BaseException | None) -> None:
        self._outcome = high, error

    def lower(self, frame: Any) -> Any:
        if self._frame is not None and self._frame is frame:
            low, self._frame, self._low = self._low, None, None
            return low
        return self._stages.lower(frame)

    def higher(self, low: Any) -> Any:
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return self._stages.higher(low)
        high, error = outcome
        if error is not None:
            raise error
        return high

    def classify(self, high: Any, *scores: str) -> Any:
        return self._stages.classify(high, *scores)

    def propagate(self, key: KeyFrame, low: Any, *scores: str) -> tuple[Any, Any]:
        return self._stages.propagate(key, low, *scores)

    def hold(self, key: KeyFrame) -> None:
        self._stages.hold(key)

    def measure(self, key: KeyFrame, low: Any, signal: Signal) -> float:
        return self._stages.measure(key, low, signal)


class Port:
    """The worker of one video's engine, whose passes go through the hub's queue."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._job: Job | None = None
        self._landed: Outcome | None = None

    def submit(self, job: Job) -> None:
        if self._job is not None:
            raise RuntimeError("Port.submit: expected no pass in flight, got a second one; poll until it lands")
        self._job = job

        def ended(high: Any, error: BaseException | None, start_ms: float, end_ms: float) -> None:
            self._landed = Outcome(job, high, error, start_ms, end_ms)

        self._seat.ask(job.low, ended)

    def poll(self, index: int) -> Outcome | None:
        landed, self._landed = self._landed, None
        if landed is not None:
            self._job = None
        return landed

    def forget(self) -> None:
        self._job = self._landed = None
        self._seat.passes.forget(self._seat)

    def close(self) -> None:
        self.forget()
