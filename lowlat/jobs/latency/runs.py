"""The runs behind `lowlat latency`: engines of one network on one device, each over the same kind of source."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from lowlat.jobs.host_memory import resident_mb
from lowlat.jobs.live import Tally, label_frames
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Engine, FrameResult, Overload, Span
from lowlat.runtime.cpu.engine import cpu_engine
from lowlat.runtime.gpu.engine import DEFAULT_SMS, gpu_engine
from lowlat.runtime.gpu.isolation import SEGMENTS
from lowlat.runtime.options import DEFAULT, Options, find_device
from lowlat.runtime.stages import working_size
from lowlat.schedule import PerFrame, Policy, Schedule, Signal
from lowlat.segmenter import prepare
from lowlat.video.rate import at_rate
from lowlat.video.synthetic import synthetic_frames

WARM_UP = 10
"""Frames after the first one that count as start-up too: everything has run once behind them. The locked rate begins
after them."""
STALL_S = 15.0


@dataclass(frozen=True)
class Metronome(Policy):
    """A key frame every `interval` frames, with the deviation measured on every frame. It is as much work as the
    adaptive schedule at a locked interval, so that runs compare."""

    interval: int

    signal = Signal.DEVIATION

    def is_key(self, distance: int, value: float | None) -> bool:
        return distance >= self.interval


@dataclass
class Recorded:
    """What one run left: the results after start-up, how long start-up took, and what was measured beside them."""

    results: list[FrameResult]
    startup_ms: float
    spans: list[Span]
    dropped: int = 0
    interrupted: bool = False
    memory_mb: list[float] = field(default_factory=list)
    """The memory in use after each frame."""
    control_ms: list[float] = field(default_factory=list)
    """The time that the control took after each frame that left room for it."""

    @property
    def control_p99_over_p50(self) -> float | None:
        """The p99 of the control's times over their median; it is above 1 as far as the machine itself is unsteady."""
        if not self.control_ms:
            return None
        p50, p99 = np.percentile(self.control_ms, (50, 99))
        return round(float(p99 / p50), 4)

    @property
    def growth_mb(self) -> float:
        """The most memory in use in the second half of the measured frames, less the most in the first half. A leak of
        any rate makes it positive; memory that comes and goes adds nothing."""
        half = len(self.memory_mb) // 2
        return max(self.memory_mb[half:]) - max(self.memory_mb[:half]) if half else 0.0


class Control:
    """A fixed computation on one thread, within its core's caches. It is timed while nothing else of the run computes,
    so it tells how steady the core itself is."""

    milliseconds = 10.0

    def __init__(self) -> None:
        # NumPy computes it, because PyTorch would start OpenMP threads beside those of the run.
        self._values = np.linspace(-1, 1, 8192, dtype=np.float32)
        self._out = np.empty_like(self._values)
        self._rounds = 100

    def calibrate(self) -> None:
        """Make the computation take about ``milliseconds``."""
        times = [self() for _ in range(10)]
        self._rounds = max(1, round(self._rounds * self.milliseconds / median(times)))

    def __call__(self) -> float:
        """Do the computation, and return how many ms it took."""
        start = time.perf_counter()
        for _ in range(self._rounds):
            np.exp(self._values, out=self._out)
        return (time.perf_counter() - start) * 1e3


class Bench:
    """Makes engines of one network, which share its weights, for measuring.

    Args:
        network: the network.
        device: "cpu", "cuda" or "cuda:1".
        options: how the network is made ready.
        isolation: what keeps S_h out of a frame's way, as in `cpu_engine` and `gpu_engine`.
        segments, sms: as in `gpu_engine`, each with its own isolation.
        pixels: the pixels of the working size, as in `VideoSegmenter`.

    Raises:
        ValueError: no such isolation there, or no such device.
        RuntimeError: no such GPU.
    """

    def __init__(
        self,
        network: VideoNetwork,
        device: str = "cpu",
        *,
        options: Options = DEFAULT,
        isolation: str | None = None,
        segments: int | None = None,
        sms: int | None = None,
        pixels: int | None = None,
    ) -> None:
        for word, option, value in (("segment", "segments", segments), ("partition", "sms", sms)):
            if value is not None and (isolation != word or torch.device(device).type == "cpu"):
                raise ValueError(
                    f"latency: expected --{option} with --isolation {word} on a GPU, got it with {isolation!r} on "
                    f"{device!r}; leave it out"
                )
        self._network = prepare(network, device=find_device("latency", device), pixels=pixels, **asdict(options))
        self.device = self._network.device
        self.on_cpu = self.device.type == "cpu"
        gpu = partial(gpu_engine, segments=segments or SEGMENTS, sms=sms or DEFAULT_SMS)
        self._make = cpu_engine if self.on_cpu else gpu
        self._isolation = isolation
        self.control = Control() if self.on_cpu else None
        # An impossible isolation is reported here, before anything is measured.
        self.engine(Schedule(PerFrame(), "blocking")).close()

    def engine(self, schedule: Schedule) -> Engine:
        """Make a new engine for one run; close it afterwards. An engine of the baseline computes nothing for later
        frames."""
        network = self._network if schedule.needs_fast_track else self._network.without_fast_track()
        return self._make(schedule, network, isolation=self._isolation)

    def working_size(self, width: int, height: int) -> str:
        """Return the size at which the network sees frames of that size, in words such as 480x360."""
        h, w = working_size(height, width, self._network.pixels, self._network.network.multiple)
        return f"{w}x{h}"

    def memory_mb(self) -> float:
        """Return the memory in use, in MiB: of the device, or of the process on a CPU."""
        if self.on_cpu:
            return resident_mb()
        return torch.cuda.memory_allocated(self.device) / 2**20


@contextmanager
def source_frames(source: str | Path | None, size: tuple[int, int]) -> Iterator[Iterable[np.ndarray]]:
    """Yield frames of a file, or synthetic ones, of ``(width, height)``."""
    if source is None:
        yield synthetic_frames(*size)
    else:
        # Imported here, so that a synthetic run needs no decoder.
        from lowlat.video.source import open_source

        with open_source(source, resize=size) as opened:
            yield opened


def record_run(
    engine: Engine,
    frames: Iterable[np.ndarray],
    advance: Callable[[], None],
    memory_mb: Callable[[], float],
    control: Control | None = None,
    fps: float | None = None,
) -> Recorded:
    """Run an engine over frames: through start-up as fast as it takes them, then at a locked rate if there is one, with
    the control in the time that this leaves after each frame."""
    recorded, tally, frames = Recorded([], 0.0, []), Tally(), iter(frames)
    room_ms = 2000 / fps - 3 * Control.milliseconds if fps is not None else 0.0

    def started(frame: np.ndarray, result: FrameResult) -> None:
        recorded.startup_ms = max(recorded.startup_ms, result.latency_ms)
        recorded.spans.extend(result.spans)
        advance()

    def keep(frame: np.ndarray, result: FrameResult) -> None:
        # The labels of hours would fill the memory.
        result.labels = None
        recorded.spans.extend(result.spans)
        result.spans = []
        recorded.results.append(result)
        recorded.memory_mb.append(memory_mb())
        advance()
        # The next frame comes two periods after this one: labels of the frame between are out already.
        alone = engine.state.flight is None
        if control is not None and alone and engine.clock.now() - result.available_ms < room_ms:
            recorded.control_ms.append(control())

    label_frames(engine, itertools.islice(frames, WARM_UP + 1), started, Tally())
    if control is not None:
        control.calibrate()
    try:
        if fps is None:
            label_frames(engine, frames, keep, tally)
        else:
            live = {"overload": Overload.DROP_OLDEST, "stall_s": STALL_S, "first": WARM_UP + 1}
            label_frames(engine, at_rate(frames, fps), keep, tally, **live)
    except KeyboardInterrupt:
        # Without the run at a locked rate there is nothing to report.
        if fps is None or not recorded.results:
            raise
        recorded.interrupted = True
    recorded.dropped = tally.dropped
    return recorded
