"""What is written comes to the disk while the run goes on: a power failure must not cost all of it."""

import os

import numpy as np
import pytest
from timed_clips import SIZE, picture

from lowlat.video import files
from lowlat.video.labels import LabelSink, RunLengthSink
from lowlat.video.sink import VideoSink


@pytest.fixture
def flushed(monkeypatch):
    """The files that were brought to the disk, with their sizes then, and a clock for the flushes: `flushed.now`."""

    class Flushed(list):
        now = 0.0

    got, fsync = Flushed(), os.fsync

    def noted(file):
        fsync(file)
        got.append((os.path.basename(os.readlink(f"/proc/self/fd/{file}")), os.fstat(file).st_size))

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(files.time, "monotonic", lambda: got.now)
    return got


def settle(sink):
    """Wait for the flush that is under way."""
    thread = sink._flush._thread
    if thread.ident is not None:
        thread.join(60)


def test_a_video_is_flushed_every_five_seconds_while_it_grows(tmp_path, flushed):
    sink = VideoSink(tmp_path / "out.mp4", SIZE, 25)
    for index in range(60):
        flushed.now = index / 5
        sink.write(picture(index % 20), index / 5)
        settle(sink)
    grown = list(flushed)
    assert [name for name, _ in grown] == [f"out.{os.getpid()}.part.mp4"] * 2
    assert 0 < grown[0][1] < grown[1][1]
    sink.close()
    assert ".part" in flushed[-1][0] and flushed[-1][1] == (tmp_path / "out.mp4").stat().st_size, "before it is named"


@pytest.mark.parametrize("kind, names", [(LabelSink, ["000000.png", "000001.png"]), (RunLengthSink, ["labels.jsonl"])])
def test_label_maps_are_flushed_every_five_seconds_and_at_the_end(tmp_path, flushed, kind, names):
    sink, labels = kind(tmp_path / "out", [(0, 0, 0)]), np.zeros((4, 4), np.uint8)
    sink.write(labels, 0)
    assert flushed == []
    flushed.now = 5.1
    sink.write(labels, 1)
    settle(sink)
    assert sorted(name for name, _ in flushed) == names and all(size for _, size in flushed)
    sink.write(labels, 2)
    assert len(flushed) == len(names)
    sink.close()
    assert flushed[-1][0] == ("labels.jsonl" if kind is RunLengthSink else "000002.png")


def test_a_disk_that_is_slow_gets_one_flush_at_a_time(tmp_path, flushed, monkeypatch):
    import threading

    go, began = threading.Event(), []

    def slow(path):
        began.append(path)
        assert go.wait(60)

    monkeypatch.setattr(files, "flush", slow)
    steady = files.SteadyFlush()
    for flushed.now in (6.0, 12.0, 18.0):
        steady.written(tmp_path / "out")
    assert len(began) == 1
    go.set()
