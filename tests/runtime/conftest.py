"""Fakes of the engine's three parts that work on frame numbers: every result says which frame it came from."""

import pytest
import torch_wheels

from lowlat.jobs.simulated import VirtualClock
from lowlat.runtime import Engine, Outcome


def pytest_configure(config):
    torch_wheels.WHEELS["folder"] = config.getoption("--torch-wheels")


class FakeStages:
    """Stages in which F_l of frame t is ("low", t) and F_h ("high", t); labels say how they came about. Costs pass on a
    virtual clock."""

    def __init__(self, clock, values=None):
        self.clock = clock
        self.values = values or {}
        self.broken = set()
        self.calls, self.bases = [], []

    def _ran(self, stage, what, ms):
        self.calls.append((stage, what))
        self.clock.advance(ms)
        if (stage, what) in self.broken or stage in self.broken:
            raise ArithmeticError(f"{stage} broke")

    def lower(self, frame):
        self._ran("lower", frame, 10)
        return ("low", frame)

    def higher(self, low):
        self._ran("higher", low[1], 100)
        return ("high", low[1])

    def classify(self, high):
        self._ran("classify", high[1], 1)
        return ("classified", high[1])

    def hold(self, key):
        pass

    def propagate(self, key, low):
        self._ran("propagate", low[1], 5)
        assert key.low == ("low", key.index), "F_l of another frame than the key frame's"
        self.bases.append(key.base)
        assert key.high[-1] == key.source, "F_h from another source than the schedule says"
        return ("propagated", low[1], key.index, key.source), ("propagated high", key.source)

    def measure(self, key, low, signal):
        self._ran("measure", low[1], 3)
        return self.values.get(low[1], 0.0)


class FakeWorker:
    """A worker whose S_h lands when the test says so: `delays` in frames, by launch; `failing` are the numbers of the
    launches that fail."""

    def __init__(self, clock, delays=(), failing=()):
        self.clock = clock
        self.delays = dict(enumerate(delays, start=1))
        self.failing = set(failing)
        self.job = None
        self.closed = 0

    def submit(self, job):
        assert self.job is None, "two S_h in flight"
        self.job, self.start_ms = job, self.clock.now()

    def poll(self, index):
        if self.job is None or index < self.job.index + self.delays.get(self.job.launch, 3):
            return None
        job, self.job = self.job, None
        error = ArithmeticError("higher broke") if job.launch in self.failing else None
        high = None if error else ("high", job.low[1])
        return Outcome(job, high, error, self.start_ms, self.clock.now())

    def forget(self):
        self.job = None

    def close(self):
        self.closed += 1


@pytest.fixture
def build():
    """build(schedule, values, delays=..., failing=...) makes an engine; its fakes are engine.stages and .worker."""

    def make(schedule, values=None, **worker):
        clock = VirtualClock()
        stages, fake = FakeStages(clock, values), FakeWorker(clock, **worker)
        engine = Engine(schedule, stages, fake, clock)
        engine.stages, engine.worker = stages, fake
        return engine

    return make
