"""The frame buffer: what becomes of each frame under each policy. Threads meet at events, never at a time."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowlat.jobs.simulated import Costs, SimulatedStages, SimulatedWorker, VirtualClock
from lowlat.runtime import Captured, Engine, FrameBuffer, Overload
from lowlat.schedule import Every, Schedule

PATIENCE_S = 30
"""Only ever waited for when a test fails."""


def indices(buffer):
    return [captured.index for captured in buffer]


@pytest.mark.parametrize(("overload", "kept"), [("drop-oldest", [7, 8, 9]), ("drop-newest", [0, 1, 2])])
def test_a_full_buffer_drops_by_its_policy_and_counts(overload, kept):
    buffer = FrameBuffer(overload, capacity=3, clock=VirtualClock())
    assert all(buffer.put(frame) for frame in "abcdefghij")
    assert (buffer.captured, buffer.dropped, buffer.waiting) == (10, 7, 3)
    buffer.end()
    assert indices(buffer) == kept
    assert (buffer.delivered, buffer.waiting) == (3, 0)


def test_wait_holds_the_source_back_and_loses_nothing():
    buffer = FrameBuffer("wait", capacity=2)
    buffer.capture(range(500))
    assert [captured.frame for captured in buffer] == list(range(500))
    assert (buffer.captured, buffer.delivered, buffer.dropped) == (500, 500, 0)
    assert buffer.close(PATIENCE_S)


def test_a_waiting_source_is_never_more_than_the_capacity_ahead():
    buffer, reached, ahead = FrameBuffer("wait", capacity=2), [0], []

    def source():
        for index in range(100):
            reached[0] = index
            yield index

    buffer.capture(source())
    for captured in buffer:
        ahead.append(reached[0] - captured.index)
    # In the buffer, held in put, and, the consumer having just taken one, the next in the making.
    assert max(ahead) <= 2 + 2
    buffer.close(PATIENCE_S)


def test_frames_carry_their_index_in_the_source_and_the_time_they_were_available():
    clock = VirtualClock()
    buffer = FrameBuffer("drop-oldest", clock=clock)
    for frame in "abc":
        clock.advance(40)
        buffer.put(frame)
    assert buffer.get() == Captured(2, 120.0, "c")


def test_the_end_of_the_source_ends_the_iteration_after_its_last_frame():
    buffer = FrameBuffer("wait", capacity=4)
    buffer.capture("abc")
    assert [captured.frame for captured in buffer] == ["a", "b", "c"]
    assert buffer.get() is None


def test_an_exception_of_the_source_reaches_the_consumer_after_its_last_frame():
    def source():
        yield "a"
        raise OSError("camera unplugged")

    buffer = FrameBuffer("wait")
    buffer.capture(source())
    assert buffer.get().frame == "a"
    with pytest.raises(OSError, match="camera unplugged"):
        buffer.get()
    assert buffer.get() is None


def test_a_stall_is_told_to_the_consumer_and_can_be_outlived():
    buffer = FrameBuffer("drop-oldest", stall_s=0)
    with pytest.raises(TimeoutError, match="the source has stalled"):
        buffer.get()
    buffer.put("late")
    assert buffer.get().frame == "late"


def test_closing_lets_go_of_a_consumer_that_waits():
    buffer, got, waits = FrameBuffer("wait"), [], threading.Event()

    def consume():
        waits.set()
        got.append(buffer.get())

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert waits.wait(PATIENCE_S)
    buffer.close()
    consumer.join(PATIENCE_S)
    assert got == [None]


def test_closing_lets_go_of_a_source_that_waits_and_counts_what_it_held():
    full, ended = threading.Event(), []

    def source():
        try:
            yield 0
            full.set()
            yield from range(1, 10)
        finally:
            ended.append(True)

    buffer = FrameBuffer("wait", capacity=1)
    buffer.capture(source())
    assert full.wait(PATIENCE_S)
    assert buffer.close(PATIENCE_S)
    assert buffer.captured == buffer.dropped and buffer.waiting == 0
    assert not buffer.put("more") and buffer.get() is None


def test_an_error_that_comes_after_closing_is_nobodys():
    buffer = FrameBuffer("wait")
    buffer.close()
    buffer.end(OSError("the camera is gone"))
    assert buffer.get() is None


def test_closing_does_not_wait_for_a_source_that_hangs():
    release, hangs = threading.Event(), threading.Event()

    def source():
        hangs.set()
        release.wait(PATIENCE_S)
        yield 0

    buffer = FrameBuffer("drop-oldest")
    buffer.capture(source())
    assert hangs.wait(PATIENCE_S)
    assert not buffer.close(timeout_s=0)
    release.set()
    assert buffer.close(PATIENCE_S)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["drop-oldest", "drop-newest"]),
    st.integers(1, 4),
    st.lists(st.sampled_from(["put", "get"]), max_size=60),
)
def test_every_frame_is_delivered_in_order_or_counted_as_dropped(overload, capacity, steps):
    buffer, delivered = FrameBuffer(overload, capacity=capacity, clock=VirtualClock(), stall_s=0), []
    for step in steps:
        if step == "put":
            buffer.put(None)
        elif buffer.waiting:
            delivered.append(buffer.get().index)
        assert buffer.waiting <= capacity, "the buffer grew past its bound"
        assert buffer.captured == len(delivered) + buffer.dropped + buffer.waiting
    assert delivered == sorted(set(delivered))
    buffer.close()
    assert buffer.captured == buffer.delivered + buffer.dropped


def test_a_source_faster_than_the_engine_is_answered_or_counted_frame_by_frame():
    """Three frames arrive for each the engine takes: ages count the dropped ones, latencies the time in the
    buffer."""
    clock = VirtualClock()
    buffer = FrameBuffer("drop-oldest", capacity=1, clock=clock)
    engine = Engine(Schedule(Every(5)), SimulatedStages(clock, Costs()), SimulatedWorker(clock, 299), clock)
    results = []
    for _ in range(20):
        for _ in range(3):
            buffer.put(0)
        buffer.end() if len(results) == 19 else None
        captured = buffer.get()
        results.append(engine.step(captured.frame, index=captured.index, available_ms=captured.available_ms))
    assert [result.index for result in results] == list(range(2, 60, 3))
    assert buffer.captured == len(results) + buffer.dropped == 60
    assert results[1].age == 3


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: FrameBuffer("drop"), "drop-oldest, drop-newest, wait"),
        (lambda: FrameBuffer(capacity=0), "use 1 or more"),
    ],
)
def test_what_cannot_be_buffered_is_refused_with_the_mend(make, mend):
    with pytest.raises(ValueError, match=mend):
        make()


def test_a_second_source_is_refused():
    buffer = FrameBuffer(Overload.WAIT)
    buffer.capture([])
    with pytest.raises(RuntimeError, match="a buffer a source"):
        buffer.capture([])
    buffer.close(PATIENCE_S)
