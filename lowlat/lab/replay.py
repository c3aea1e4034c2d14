"""The replay runtime: S_h lands an exact number of frames after its launch, so that accuracy doesn't depend on the
machine."""

from __future__ import annotations

from dataclasses import replace

from lowlat.runtime.cpu.threads import run_job
from lowlat.runtime.protocols import Clock, Job, KeyFrame, Outcome, Stages, WallClock

PAPER_DELAY = 3
"""Frames: ceil(299 / 119), the time of S_h over that of the fast track in the paper's Table 3."""


class ReplayWorker:
    """Runs a job when it is submitted and keeps its outcome back for `delay` frames. Then its F_h is carried along all
    bases that have come since.

    F_h of frame t is used from frame t + delay on: frames t + 1 to t + delay - 1 still use the temporary key frame's
    carried features.

    Raises:
        ValueError: `delay` is below 1 frame.
    """

    def __init__(self, stages: Stages, delay: int = PAPER_DELAY, clock: Clock | None = None) -> None:
        if not delay >= 1:
            raise ValueError(
                f"ReplayWorker: expected a delay of at least 1 frame, got {delay!r}; for none use mode='blocking'"
            )
        self._stages = stages
        self._delay = delay
        self._clock = clock if clock is not None else WallClock()
        self._outcome: Outcome | None = None

    def submit(self, job: Job) -> None:
        if self._outcome is not None:
            raise RuntimeError("ReplayWorker.submit: expected no job in flight, got a second one; poll until it lands")
        self._outcome = run_job(self._stages.higher, job, self._clock)
        if not isinstance(self._outcome.error, Exception | None):
            # Ctrl-C came on the caller's own thread, and ends the run. If that goes on, the job fails when it is due.
            raise self._outcome.error

    def poll(self, index: int) -> Outcome | None:
        if self._outcome is None or index < self._outcome.job.index + self._delay:
            return None
        outcome, self._outcome = self._outcome, None
        return carried_on(self._stages, outcome)

    def forget(self) -> None:
        self._outcome = None

    def close(self) -> None:
        self.forget()


def carried_on(stages: Stages, outcome: Outcome) -> Outcome:
    """Return the outcome of a pass whose F_h has been carried to the last base that has come since; an error of a stage
    becomes its error."""
    job, base, high = outcome.job, outcome.job.low, outcome.high
    if outcome.error is not None:
        return outcome
    try:
        for low in job.path:
            _, high = stages.propagate(KeyFrame(job.index, job.index, job.low, high, base), low)
            base = low
    except Exception as error:
        return replace(outcome, high=None, error=error, steps=0)
    return replace(outcome, high=high, steps=len(job.path))
