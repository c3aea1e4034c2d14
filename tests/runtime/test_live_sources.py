"""Sources as they come: too fast, too slow, stalling, ending, breaking, changing size, interrupted; several at once. On
the runtime of streams over the fake device, and where it differs on CPU threads."""

import threading

import numpy as np
import pytest
from fake_device import FakeDevice
from stream_runs import build, deferred

from lowlat.jobs.live import Tally, label_frames
from lowlat.runtime import FrameBuffer
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Adaptive, Every, Schedule, Threshold
from lowlat.segmenter import VideoSegmenter

PATIENCE_S = 30


def label(engine, frames, **options):
    """Labels a source; gives the tally and the pairs of frame and result."""
    tally, seen = Tally(), []
    label_frames(engine, frames, lambda frame, result: seen.append((frame, result)), tally, **options)
    return tally, seen


def test_a_source_faster_than_the_fast_track_drops_and_never_queues():
    engine = build(deferred(Every(3)))
    answered = []
    with FrameBuffer("drop-oldest", clock=engine.clock) as buffer:
        for index in range(0, 300, 3):
            for frame in range(index, index + 3):
                buffer.put(frame)
            captured = buffer.get()
            answered.append(engine.step(captured.frame, index=captured.index, available_ms=captured.available_ms))
        assert buffer.captured == 300 and buffer.dropped == 200
    assert [result.labels[1] for result in answered] == list(range(2, 300, 3))
    assert engine.state.counts.landings > 3


@pytest.mark.parametrize("lookahead", [False, True], ids=["", "ahead"])
def test_frames_and_results_stay_together_whatever_is_begun_early(lookahead):
    engine = build(deferred(Every(3)))
    tally, seen = label(engine, range(60), overload="wait" if lookahead else None)
    assert [(frame, result.labels[1]) for frame, result in seen] == [(frame, frame) for frame in range(60)]
    assert tally.summary().frames == 60 and tally.dropped == 0


def test_a_source_slower_than_the_fast_track_is_waited_for():
    """Each frame is there only once the labels of the one before are out: nothing is begun early."""
    engine = build(deferred(Every(3)))
    asked = threading.Semaphore(1)

    def source():
        for frame in range(20):
            assert asked.acquire(timeout=PATIENCE_S)
            yield frame

    answered = []
    with FrameBuffer("drop-oldest", clock=engine.clock) as buffer:
        buffer.capture(source())
        for result in engine.run(buffer):
            answered.append(result.labels[1])
            assert engine._ahead._taken is None
            asked.release()
    assert answered == list(range(20))


def test_a_source_that_stalls_is_told_and_the_stream_goes_on_after_it():
    engine = build(deferred(Every(3)))
    buffer = FrameBuffer("drop-oldest", clock=engine.clock, stall_s=0)
    buffer.put(0)
    answers = engine.run(buffer)
    assert next(answers).startup
    with pytest.raises(TimeoutError, match="the source has stalled"):
        next(answers)
    buffer.put(1)
    assert next(engine.run(buffer)).labels == ("propagated", 1, 0, 0)


def test_a_source_that_breaks_is_answered_up_to_its_last_frame():
    def source():
        yield from range(5)
        raise OSError("cable pulled")

    engine, seen = build(deferred(Every(3))), []
    with pytest.raises(OSError, match="cable pulled"):
        label_frames(engine, source(), lambda frame, result: seen.append(frame), Tally(), overload="wait")
    assert seen == [0, 1, 2, 3, 4]


def test_ctrl_c_between_frames_leaves_a_stream_that_closes():
    engine, seen = build(deferred(Every(3))), []

    def source():
        yield from range(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), engine:
        label_frames(engine, source(), lambda frame, result: seen.append(frame), Tally())
    assert seen == [0, 1, 2, 3, 4]
    assert not any(stream.queue for stream in engine.device.streams)


def test_ctrl_c_while_labels_are_waited_for_costs_that_frame():
    engine = build(deferred(Every(3)))
    engine.step(0)
    wait = engine.stages.wait

    def interrupted(labels):
        engine.stages.wait = wait
        raise KeyboardInterrupt

    engine.stages.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.step(1)
    assert engine.step(2, index=2).labels == ("propagated", 2, 0, 0)


def test_streams_of_one_network_keep_out_of_each_others_way_in_any_order():
    for seed in range(10):
        device, programs = FakeDevice(seed), build(deferred()).stages._programs
        engines = [build(deferred(Every(2 + n)), device, programs=programs, graphs=False) for n in range(3)]
        for index in range(15):
            for n, engine in enumerate(engines):
                frame = 100 * n + index
                labels = engine.step(frame, index=index).labels
                assert labels[1] == frame and all(number // 100 == n for number in labels[1:])


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(8)]


def test_segmenters_share_the_weights_of_one_network(tiny_network, frames, one_thread):
    stages = NetworkStages(tiny_network)
    with VideoSegmenter(tiny_network, policy=Every(3), pixels=None) as alone:
        expected = [alone.step(frame).labels for frame in frames[:3]]
    with VideoSegmenter(stages, policy=Every(3)) as one, VideoSegmenter(stages, policy=Every(3)) as two:
        assert one._engine._stages.network is two._engine._stages.network is stages
        for frame, labels in zip(frames, expected, strict=False):
            assert np.array_equal(one.step(frame).labels, labels)
            two.step(frame[::-1])


@pytest.mark.parametrize(
    "schedule",
    [
        {"policy": Every(3)},
        {"policy": Threshold(1.0), "decision": "critical"},
        {"policy": Adaptive(1.0, cut=None), "mode": "blocking"},
    ],
)
def test_on_the_cpu_another_size_is_refused_until_the_engine_is_restarted(tiny_network, frames, one_thread, schedule):
    with VideoSegmenter(tiny_network, pixels=None, **schedule) as segmenter:
        segmenter.step(frames[0])
        segmenter.step(frames[1])
        larger = np.zeros((40, 48, 3), np.uint8)
        with pytest.raises(ValueError, match="expected a frame of 32x24 like the key frame, got 48x40"):
            segmenter.step(larger)
        assert segmenter.step(frames[2]).age == 2
        segmenter.restart()
        result = segmenter.step(larger)
        assert result.startup and result.labels.shape == (40, 48) and result.index == 3


def test_a_pass_in_flight_at_a_restart_is_thrown_away():
    engine = build(deferred(Every(2)), FakeDevice(weights={"S_h": 1e-9}))
    engine.device.progress = lambda: None
    for index in range(3):
        engine.step(index)
    engine.restart()
    assert engine.step(3).startup
    engine.device.finish()
    result = engine.step(4)
    assert result.landed is None and result.labels == ("propagated", 4, 3, 3)
    assert engine.state.counts.discarded == 1


def test_blocking_schedules_run_on_streams_too():
    engine = build(Schedule(Every(3), "blocking"))
    labels = [engine.step(index).labels for index in range(7)]
    assert labels[3] == ("classified", 3) and labels[5] == ("propagated", 5, 3, 3)
