"""`GpuWorker` runs S_h in the background on a GPU, beside `GpuStages`."""

from __future__ import annotations

from lowlat.runtime.gpu.caches import Side
from lowlat.runtime.gpu.device import Device
from lowlat.runtime.gpu.stages import FrameHigh, GpuStages
from lowlat.runtime.protocols import Job, Outcome


class GpuWorker:
    """Runs S_h on a stream of its own: `submit` enqueues it, `poll` asks an event. The device is the clock."""

    def __init__(self, stages: GpuStages, device: Device) -> None:
        self._stages, self._device = stages, device
        self._job: tuple[Job, Side] | None = None
        self._start, self._end = (device.event(f"S_h {name}", timed=True) for name in ("start", "end"))
        self._closed = False

    def submit(self, job: Job) -> None:
        if self._job is not None or self._closed:
            state = "a closed one" if self._closed else "one with a job in flight"
            raise RuntimeError(f"GpuWorker.submit: expected an idle worker, got {state}; poll until the job lands")
        self._job = job, self._stages.launch_higher(job, self._start, self._end)

    def poll(self, index: int) -> Outcome | None:
        if self._job is None:
            return None
        error = self._stages.turns.error()
        if error is None and not self._stages.turns.done(self._stages.caches.landed):
            return None
        (job, side), self._job = self._job, None
        if error is not None:
            now = self._device.now()
            return Outcome(job, None, error, now, now)
        start_ms = self._start.ms()
        return Outcome(job, FrameHigh(side, len(job.path)), None, start_ms, start_ms + self._end.ms_since(self._start))

    def forget(self) -> None:
        """Forgets the job. What is enqueued of it runs to its end, before the next pass on the same stream."""
        self._job = None
        self._stages.turns.cancel()
        # An error of this job must not be taken for one of the next.
        self._stages.turns.error()

    def close(self) -> None:
        """Waits for the work that is enqueued; its memory may be freed afterwards."""
        self._closed = True
        self._stages.turns.close()
        self._device.close()
