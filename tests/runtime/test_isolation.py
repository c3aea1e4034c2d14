"""What keeps S_h out of the way, three ways, as far as a machine without a GPU allows: when a part of S_h is launched,
what is told where one can't be had, and that a part waits for frames and not frames for parts."""

import threading
from types import SimpleNamespace

import pytest
import torch
from fake_device import FakeDevice
from places import at
from stream_runs import build, deferred

from lowlat.runtime.gpu.engine import gpu_engine
from lowlat.runtime.gpu.isolation import InTurns, Turns
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.gpu.stages import GpuStages
from lowlat.runtime.options import Options
from lowlat.schedule import Every
from lowlat.segmenter import VideoSegmenter

PATIENCE_S = 30


class Parts:
    """Parts of S_h that note their launches on a stream."""

    def __init__(self, device, count):
        self.stream, self.landed = device.stream("S_h", None), device.event("landed")
        self.launched = []
        self.work = [lambda part=part: self.launch(part) for part in range(count)]

    def launch(self, part):
        self.launched.append(part)
        self.stream.run(lambda: None, (), ())


@pytest.fixture
def turns():
    """An `InTurns` without a thread, on a device that finishes what it is given."""
    device = FakeDevice()
    device.progress = device.finish
    turns = InTurns(device, 4, threaded=False)
    parts = Parts(device, 4)
    turns.submit(parts.work, parts.stream, parts.landed)
    return device, turns, parts


def test_no_part_is_launched_while_a_frame_is_pending(turns):
    _, turns, parts = turns
    turns.frame_begun(0)
    assert not turns.advance() and parts.launched == []


def test_parts_follow_each_other_while_no_frame_is_pending(turns):
    _, turns, parts = turns
    while turns.advance():
        pass
    assert parts.launched == [0, 1, 2, 3] and turns.done(parts.landed)


def test_a_part_waits_for_the_one_before(turns):
    device, turns, parts = turns
    device.progress = lambda: None
    assert turns.advance() and not turns.advance()
    device.finish()
    assert turns.advance() and parts.launched == [0, 1]


def test_a_frame_meets_one_part_at_most(turns):
    """Whenever a frame begins, at most the part under way is before it."""
    device, turns, parts = turns
    turns.advance()
    turns.frame_begun(0)
    assert not turns.advance() and parts.launched == [0]


def test_under_full_load_each_frame_grants_one_part(turns):
    _, turns, parts = turns
    for serial in range(6):
        turns.frame_begun(serial + 1)
        turns.frame_done(serial)
        turns.advance()
        assert not turns.advance()
        assert parts.launched == list(range(min(serial + 1, 4)))


def test_the_pass_is_done_with_its_last_part_and_not_before(turns):
    _, turns, parts = turns
    for _ in range(3):
        turns.advance()
        assert not turns.done(parts.landed)
    turns.advance()
    assert turns.done(parts.landed)


def test_a_cancelled_pass_launches_nothing_more(turns):
    _, turns, parts = turns
    turns.advance()
    turns.cancel()
    assert not turns.advance() and parts.launched == [0] and turns.done(parts.landed)


def test_a_frame_begins_and_ends_while_a_part_is_being_launched(turns):
    _, turns, parts = turns

    def launch():
        frame = threading.Thread(target=lambda: (turns.frame_begun(0), turns.frame_done(0)), daemon=True)
        frame.start()
        frame.join(PATIENCE_S)
        assert not frame.is_alive()

    turns.submit([launch], parts.stream, parts.landed)
    while turns.advance():
        pass
    assert turns.error() is None and turns.done(parts.landed)


def test_a_pass_is_cancelled_behind_the_part_that_is_being_launched(turns, monkeypatch):
    _, turns, parts = turns
    waits, wait_for = threading.Event(), turns._changed.wait_for
    monkeypatch.setattr(turns._changed, "wait_for", lambda done: (waits.set(), wait_for(done)))
    canceller = threading.Thread(target=turns.cancel, daemon=True)

    def launch():
        canceller.start()
        assert waits.wait(PATIENCE_S)
        parts.launch("first")

    turns.cancel()
    waits.clear()
    turns.submit([launch, parts.work[1]], parts.stream, parts.landed)
    assert turns.advance()
    canceller.join(PATIENCE_S)
    assert parts.launched == ["first"] and not turns.advance()


def test_frames_are_served_while_the_pass_is_in_parts():
    """A live run: the source pauses after each frame, and a pass needs as many pauses as it has parts."""
    engine = build(deferred(Every(8)), segments=8)
    engine.device.progress = engine.device.finish
    engine.device.beside = None
    landed = []
    for index in range(40):
        landed.append(engine.step(index).landed)
        engine.turns.advance()
    passes = [index - source for index, source in enumerate(landed) if source is not None]
    # F_h is carried to the frames 3, 6 and 9 behind its own: three parts more.
    assert passes and all(delay == 8 + 3 for delay in passes)


def test_the_thread_launches_all_parts_and_ends_when_closed():
    device = FakeDevice()
    device.progress = device.finish
    turns = InTurns(device, 3)
    parts, done = Parts(device, 3), threading.Event()
    parts.work.append(done.set)
    turns.submit(parts.work, parts.stream, parts.landed)
    assert done.wait(PATIENCE_S)
    turns.close()
    assert not turns._thread.is_alive() and parts.launched == [0, 1, 2]


def test_closing_lets_go_of_a_thread_that_waits_for_a_frame():
    turns = InTurns(FakeDevice(), 3)
    turns.frame_begun(0)
    turns.close()
    turns.close()
    assert not turns._thread.is_alive()


def test_no_segments_are_refused():
    with pytest.raises(ValueError, match="at least 1 segment, got 0"):
        InTurns(FakeDevice(), 0, threaded=False)


@pytest.fixture
def gpu():
    """A GPU of 132 multiprocessors, as far as `torch.cuda` can be stood in for."""
    with at("stand-in"), pytest.MonkeyPatch.context() as patch:
        yield patch


def no_contexts(**_):
    raise RuntimeError("not built with green contexts")


def nothing(**_):
    return object()


LACKING = {
    "an old torch": (None, "is without green contexts"),
    "a torch built without": (SimpleNamespace(create=no_contexts), "not built with green contexts"),
    "no streams in them": (SimpleNamespace(create=nothing), "makes no streams in green contexts"),
}


@pytest.mark.parametrize("what", LACKING)
def test_a_partition_that_cannot_be_had_is_priority_with_a_notice(tiny_network, gpu, what):
    lacking, why = LACKING[what]
    gpu.setattr(torch.cuda, "GreenContext", lacking)
    with pytest.warns(RuntimeWarning, match=f"'partition' can't be had, 'priority' takes its place.*{why}"):
        segmenter = VideoSegmenter(tiny_network, device="cuda", isolation="partition")
    assert segmenter.isolation == "priority" and why in segmenter.notice
    segmenter.close()


@pytest.mark.parametrize(("asked", "notice"), [(24, ""), (20, "multiprocessors for S_h: asked for 20, granted 16")])
def test_a_partition_says_how_many_multiprocessors_it_was_granted(tiny_network, gpu, asked, notice):
    with VideoSegmenter(tiny_network, device="cuda", isolation="partition", sms=asked) as segmenter:
        assert segmenter.isolation == "partition" and segmenter.notice.endswith(notice)
        assert bool(segmenter.notice) == bool(notice)


def test_a_partition_takes_no_more_than_there_is(tiny_network, gpu):
    with pytest.raises(ValueError, match="1 to 131 multiprocessors for S_h, got 132"):
        VideoSegmenter(tiny_network, device="cuda", isolation="partition", sms=132)


@pytest.mark.parametrize(("isolation", "turns", "parts"), [("priority", Turns, 1), ("segment", InTurns, 4)])
def test_each_isolation_has_its_turns_and_s_h_its_parts(tiny_network, gpu, isolation, turns, parts):
    network = NetworkPrograms(tiny_network, Options(graphs=False), device="cuda")
    with gpu_engine(deferred(Every(5)), network, isolation=isolation, segments=25) as engine:
        stages = engine._stages
        assert isinstance(stages, GpuStages) and isinstance(stages.turns, turns)
        assert len(stages._higher) == parts, "the tiny network's S_h has four steps"
