"""`lowlat hub`: several videos measured beside one alone."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from lowlat.cli import app
from lowlat.hub.costs import Costs
from lowlat.jobs.latency import videos as job
from lowlat.video.sink import VideoSink

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(monkeypatch, tiny_network):
    """A network that any machine has time for, whose frames cost next to nothing."""
    monkeypatch.setattr(job, "models", SimpleNamespace(load=lambda network: tiny_network))
    monkeypatch.setattr(Costs, "fast_ms", lambda costs, size: 0.1)


@pytest.mark.usefixtures("small")
def test_every_video_is_measured_beside_one_alone():
    words = "hub --videos 2 --videos 3 --frames 6 --fps 20 --size 64x48 --cores 1 --json"
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert [run["videos"] for run in report["runs"]] == [1, 2, 3]
    assert (report["width"], report["height"], report["fps"], report["source"]) == (64, 48, 20.0, "synthetic")
    for run in report["runs"]:
        assert (
            len(run["each"]) == run["videos"] and run["capacity"] >= 0 and run["spacing"] >= 1 and run["bound_ms"] > 0
        )
        for video in run["each"]:
            assert video["frames"] + video["dropped"] + video["failed"] >= 6 and video["failed"] == 0
            assert 0 < video["p50_ms"] <= video["p99_ms"] <= video["max_ms"] and video["p99_over_alone"] > 0


@pytest.mark.usefixtures("small")
def test_the_working_size_is_chosen(monkeypatch):
    seen = []
    monkeypatch.setattr(job, "_feed", lambda videos, pictures, fps: None)
    monkeypatch.setattr(job, "_figures", lambda video, results, alone: job.VideoFigures(*[1] * 10))
    hub = job.Hub
    monkeypatch.setattr(
        job, "Hub", lambda *arguments, **options: seen.append(options["pixels"]) or hub(*arguments, **options)
    )
    for words in ("", "--pixels 768", "--pixels 0"):
        words = f"hub --videos 1 --frames 1 --size 64x48 --cores 1 {words}"
        assert CliRunner().invoke(app, words.split(), catch_exceptions=False).exit_code == 0
    assert seen == ["default", 768, None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--videos 0", "expected --videos of at least 1, got [0]"),
        ("--frames 0", "expected frames and fps above 0, got 0 and 3"),
        ("--pixels -1", "hub: expected --pixels of at least 1"),
        ("--size huge", "expected --size as in 640x360, got 'huge'"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, said):
    result = CliRunner().invoke(app, ["hub", *words.split()])
    assert result.exit_code == 2 and said in result.stderr


def test_a_video_too_short_to_measure_is_told(tmp_path):
    with VideoSink(tmp_path / "short.mp4", (64, 48), 25) as sink:
        for _ in range(5):
            sink.write(np.zeros((48, 64, 3), np.uint8))
    result = CliRunner().invoke(app, ["hub", str(tmp_path / "short.mp4"), "--size", "64x48"])
    assert result.exit_code == 2 and "got 5 frames of" in result.stderr and "longer video" in result.stderr
