"""A segmenter without a network: the real engine on stages that cost nothing."""

import numpy as np
import pytest

import lowlat.jobs.demo as demo_job
import lowlat.jobs.segment as segment_job
from lowlat.classes import CAMVID
from lowlat.lab.replay import ReplayWorker
from lowlat.runtime import Engine, WallClock
from lowlat.schedule import Every, Mode, Schedule
from lowlat.video.sink import VideoSink

SIZE = (64, 48)


class Stages:
    """Stages in which F_l is the frame and F_h its grey level and size; every label is the class of that level."""

    def __init__(self, broken):
        self.broken = dict(broken)
        self.count = -1

    def lower(self, frame):
        self.count += 1
        if error := self.broken.get(self.count):
            raise error
        return frame

    def higher(self, frame):
        return int(frame.mean()), frame.shape[:2]

    def classify(self, high):
        level, size = high
        return np.full(size, level // 10 % 11, np.uint8)

    def hold(self, key):
        pass

    def propagate(self, key, frame):
        assert key.high[1] == frame.shape[:2], "a key frame of another size"
        return self.classify(self.higher(frame)), key.high

    def measure(self, key, frame, signal):
        return 0.0


class FakeSegmenter:
    broken: dict = {}
    stages = Stages
    classes = CAMVID

    def __init__(self, network="lite", *, policy=None, mode="low-latency", decision=None, isolation=None):
        schedule = Schedule(policy or Every(5), mode)
        stages = self.stages(self.broken)
        self.clock = WallClock()
        worker = ReplayWorker(stages, 2, self.clock) if schedule.mode is Mode.LOW_LATENCY else None
        self._engine = Engine(schedule, stages, worker, self.clock)
        self.run, self.restart = self._engine.run, self._engine.restart

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._engine.close()


@pytest.fixture
def segmenter(monkeypatch):
    """Puts the fake segmenter in place of the real one. `segmenter.broken[n] = error` makes its n-th frame raise that
    error."""
    fake = type("Fake", (FakeSegmenter,), {"broken": {}})
    monkeypatch.setattr(segment_job, "VideoSegmenter", fake)
    monkeypatch.setattr(demo_job, "VideoSegmenter", fake)
    return fake


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoSink(path, SIZE, 25) as sink:
        for index in range(20):
            sink.write(np.full((*SIZE[::-1], 3), index * 10, np.uint8))
    return path


@pytest.fixture
def refused(lowlat):
    """Runs a command line that must end with exit code 2 and one line on stderr; returns the line."""

    def run(*words):
        code, out, err = lowlat(*words)
        assert (code, out) == (2, ""), err
        assert err.count("\n") == 1 and err.startswith("lowlat: ") and err.count("lowlat:") == 1
        return err

    return run
