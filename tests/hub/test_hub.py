"""`lowlat.Hub` on real threads: several videos of a tiny network, on every device that tests have."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hub_places import hub_at

import lowlat
from lowlat.hub.video import Account
from lowlat.schedule import Every

PATIENCE_S = 60
"""Only ever waited for when a test fails."""
SIZE = (48, 64)

pytestmark = pytest.mark.usefixtures("one_thread")


def frames(count, size=SIZE):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


@contextmanager
def opened(network, **options):
    """A hub with room for any video, because it is told beforehand what frames and parts cost."""
    if options.get("device", "cpu") == "cpu":
        options["cores"] = 1
    with lowlat.Hub(network, **options) as hub:
        know(hub)
        yield hub


def know(hub, fast=0.01, parts=(0.01, 0.01)):
    hub._costs.frame_took((*SIZE, 3), fast)
    for part, ms in enumerate(parts):
        hub._costs.part_took((*SIZE, 3), 1, part, ms)


def feed(video, given):
    """Hands frames in one by one, each when the one before is labelled or has failed."""
    for frame in given:
        video.submit(frame)
        video._seat.wait_for(video._submitted)


def test_every_video_has_the_labels_that_it_has_alone(tiny_network, device):
    """S_h in the background never lands, so that all labels come from the first key frame."""
    given = frames(4)
    with lowlat.VideoSegmenter(tiny_network, policy=Every(9)) as alone:
        expected = [alone.step(frame).labels for frame in given]
    with opened(tiny_network, device=device) as hub:
        videos = [hub.open(name, fps=1, policy=Every(9), hold=9) for name in ("gate", "yard", "door")]
        for frame in given:
            for video in videos:
                feed(video, [frame])
        hub.close()
        for video in videos:
            results = list(video)
            assert np.array_equal([result.labels for result in results], expected)
            assert [result.index for result in results] == [0, 1, 2, 3] and results[0].startup
            assert results[0].classes is hub.classes


def test_results_have_their_scores_where_they_are_asked_for(tiny_network, device):
    given = frames(3, (44, 64))
    with lowlat.VideoSegmenter(tiny_network, policy=Every(9)) as alone:
        expected = [alone.step(frame, scores=True).scores for frame in given]
    with opened(tiny_network, device=device) as hub:
        scored, plain = (
            hub.open(str(n), fps=1, policy=Every(9), hold=9, scores=asked) for n, asked in ((1, True), (0, False))
        )
        for frame in given:
            feed(scored, [frame])
            feed(plain, [frame])
        hub.close()
        assert [result.scores for result in plain] == [None] * 3
        for result, scores in zip(scored, expected, strict=True):
            # A GPU's stages sum up in another order than a CPU's.
            np.testing.assert_allclose(result.scores, scores, rtol=1e-5, atol=1e-6)


def test_s_h_lands_for_every_video(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        videos = [hub.open(str(n), fps=1, policy=Every(3), hold=99) for n in range(3)]
        for frame in frames(24):
            for video in videos:
                feed(video, [frame])
        hub.close()
        for video in videos:
            assert video.counts.schedule.landings > 1 and max(result.age for result in video) < 24


def test_the_account_is_of_every_frame_and_the_newest_wins(tiny_network, monkeypatch):
    held, let_go = threading.Event(), threading.Event()
    with opened(tiny_network) as hub:
        gate = hub.open("gate", fps=1, hold=9)
        feed(gate, frames(1))
        propagate = hub._prepared.propagate

        def slow(*arguments):
            held.set()
            assert let_go.wait(PATIENCE_S)
            return propagate(*arguments)

        monkeypatch.setattr(hub._prepared, "propagate", slow)
        gate.submit(frames(1)[0], time_s=0.5)
        assert held.wait(PATIENCE_S)
        for index in (5, 6, 9):
            assert gate.submit(frames(1)[0], time_s=index / 10, index=index)
        assert gate.counts.waiting == 2 and gate.counts.dropped == 2
        let_go.set()
        gate._seat.wait_for(3)
        hub.close()
        assert [(result.index, result.time_s) for result in gate] == [(0, None), (1, 0.5), (9, 0.9)]
        account = gate.counts
        assert account == Account(5, 3, 2, 0, 0, account.schedule)
        assert gate.submit(frames(1)[0]) is False and gate.counts.dropped == 3 and gate.closed


def test_results_are_read_by_iteration_by_callback_and_as_the_latest(tiny_network, device):
    called, came = [], threading.Event()

    def on_result(result):
        called.append(result.index)
        came.set()
        if result.index == 0:
            raise ArithmeticError("a reader's own")

    with opened(tiny_network, device=device) as hub, hub.open("gate", fps=1, on_result=on_result) as gate:
        assert gate.latest() is None
        reader = iter(gate)
        for index, frame in enumerate(frames(3)):
            gate.submit(frame)
            assert next(reader).index == index and gate.latest().index == index
            assert came.wait(PATIENCE_S)
            came.clear()
        assert called == [0, 1, 2] and isinstance(gate.error, ArithmeticError)
        with pytest.raises(TimeoutError, match="expected a result of 'gate' within 0.01 s, got none; its source"):
            next(gate.results(stall_s=0.01)), list(gate.results(stall_s=0.01))
        gate.close()
        assert list(reader) == [], "the end"


def test_a_slow_reader_gets_the_newest_and_the_end(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1)
        feed(gate, frames(6))
        gate.close()
        assert [result.index for result in gate] == [5] and gate.counts.labelled == 6


def test_settled_results_are_final(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, policy=Every(1), settled=True, hold=9)
        given = iter(gate)
        for frame in frames(2):
            gate.submit(frame)
            result = next(given)
            assert result.settled and result.key


def test_a_failing_s_h_is_one_video_s_own(tiny_network, monkeypatch):
    """The video of dark frames fails at its first frame, then at a key frame; the other video goes on."""
    with opened(tiny_network) as hub:
        parts, broken = hub._prepared.higher_parts, threading.Event()
        broken.set()

        def failing(low):
            if broken.is_set() and low.dark:
                raise ArithmeticError("S_h broke")
            return parts(low)

        lower = hub._prepared.lower

        def marked(frame):
            low = lower(frame)
            low.dark = not frame.any()
            return low

        monkeypatch.setattr(hub._prepared, "higher_parts", failing)
        monkeypatch.setattr(hub._prepared, "lower", marked)
        gate, yard = (hub.open(name, fps=1, policy=Every(1), hold=99) for name in ("gate", "yard"))
        dark = np.zeros((*SIZE, 3), np.uint8)
        feed(gate, [dark])
        assert gate.counts.failed == 1 and "S_h failed on frame 0" in str(gate.error)
        broken.clear()
        feed(gate, [dark])
        broken.set()
        for frame in frames(12):
            feed(gate, [dark])
            feed(yard, [frame])
        assert gate.counts.schedule.failures > 0 and gate.counts.labelled == 13 and gate.latest().degraded
        assert yard.counts.schedule.failures == 0 and yard.counts.schedule.landings > 0 and yard.error is None


def test_a_stage_that_raises_costs_that_frame(tiny_network, monkeypatch):
    with opened(tiny_network) as hub:
        gate, yard = hub.open("gate", fps=1), hub.open("yard", fps=1)
        feed(gate, frames(2)), feed(yard, frames(2))
        lower = hub._prepared.lower
        monkeypatch.setattr(hub._prepared, "lower", lambda frame: 1 / 0 if not frame.any() else lower(frame))
        feed(gate, [np.zeros((*SIZE, 3), np.uint8), *frames(1)]), feed(yard, frames(1))
        assert (gate.counts.labelled, gate.counts.failed) == (3, 1) and isinstance(gate.error, ZeroDivisionError)
        assert (yard.counts.labelled, yard.counts.failed) == (3, 0)


def test_frames_of_another_size_start_a_video_up_again(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, hold=9)
        feed(gate, [*frames(2), *frames(2, (40, 56)), *frames(1)])
        gate.restart()
        feed(gate, frames(1))
        gate.close()
        assert [result.startup for result in gate] == [True, False, True, False, True, True]
        assert gate.counts.failed == 0


def test_a_video_comes_and_goes_while_others_run(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, hold=99)
        for index in range(5):
            with hub.open("guest", fps=1) as guest:
                assert set(hub.videos) == {"gate", "guest"}
                for frame in frames(2):
                    guest.submit(frame)
                    feed(gate, [frame])
            assert guest.closed and guest.counts.waiting == 0
            assert gate.counts.labelled == 2 * index + 2
        assert set(hub.videos) == {"gate"}


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("open", {"name": "gate", "fps": 1}, "Hub.open: expected a new name, got 'gate', which is open; close it"),
        ("open", {"name": "", "fps": 1}, "expected a name, got ''; name the video"),
        ("open", {"name": "x", "fps": 0}, "expected fps above 0, got 0; give the source's"),
        ("open", {"name": "x", "fps": float("nan")}, "expected fps above 0, got nan"),
        ("open", {"name": "x", "fps": 1, "over": "hope"}, "expected over to be 'refuse' or 'lower', got 'hope'"),
        ("open", {"name": "x", "fps": 1, "hold": 0}, "expected to hold at least 1 result, got 0"),
        ("open", {"name": "x", "fps": 1, "scores": "frame"}, "expected scores to be True or False, got 'frame'"),
        ("open", {"name": "x", "fps": 1, "size": (0, 3)}, r"expected a size \(height, width\), got \(0, 3\)"),
        ("capacity", {"fps": -1}, "Hub.capacity: expected fps above 0, got -1"),
    ],
)
def test_what_is_no_video_is_refused_in_words(tiny_network, method, arguments, words):
    with opened(tiny_network) as hub:
        hub.open("gate", fps=1)
        with pytest.raises(ValueError, match=words):
            getattr(hub, method)(**arguments)


def test_frames_that_are_none_are_refused_and_counted_nowhere(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1)
        with pytest.raises(ValueError, match="Video.submit: expected an RGB frame, uint8"):
            gate.submit(np.zeros(SIZE, np.uint8))
        gate.submit(frames(1)[0], index=4)
        with pytest.raises(ValueError, match="expected an index above 4, got 4; leave it out to count"):
            gate.submit(frames(1)[0], index=4)
        assert gate.counts.submitted == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "Hub: expected a batch of at least 1 pass, got 0"),
        ({"cores": 0}, "Hub: expected a whole number of at least 1 core, got 0"),
        ({"cores": 10**6}, "Hub: expected at most the .* of this machine, got 1000000; leave it out to use those at"),
        ({"device": "tpu"}, "expected device 'cpu'"),
        ({"dtype": "int8"}, "expected dtype to be one of"),
    ],
)
def test_what_is_no_hub_is_refused_in_words(tiny_network, options, words):
    with pytest.raises(ValueError, match=words):
        lowlat.Hub(tiny_network, **options)
    with pytest.raises(ValueError, match="expected no pixels beside a prepared network, which has its own"):
        lowlat.Hub(lowlat.prepare(tiny_network), pixels=100)


def test_cores_of_a_cpu_are_refused_on_a_gpu(tiny_network):
    with hub_at("stand-in") as device, pytest.raises(ValueError, match="Hub: expected no cores on a GPU"):
        lowlat.Hub(tiny_network, device=device, cores=1)


def test_costs_are_measured_before_the_first_video(tiny_network):
    with lowlat.Hub(tiny_network, cores=1) as hub:
        assert hub.capacity(fps=0.001, size=SIZE) > 0
        size = (*SIZE, 3)
        assert hub._costs.fast_ms(size) > 0 and hub._costs.longest_ms(size) > 0 and hub._costs.passes(size, 1) > 0
        assert hub.videos == {} and hub.bound_ms == 0


def test_a_network_that_fails_is_told_of_before_a_video_is_opened(tiny_network, monkeypatch):
    with lowlat.Hub(tiny_network, cores=1) as hub:
        monkeypatch.setattr(hub._prepared, "propagate", lambda *_: 1 / 0)
        with pytest.raises(RuntimeError, match="the network fails on frames of 64x48: ZeroDivisionError"):
            hub.open("gate", fps=1, size=SIZE)


def test_one_video_too_many_is_refused_or_lowers_the_key_frames_of_all(tiny_network):
    with lowlat.Hub(tiny_network, cores=1) as hub:
        # A pass of 400 ms: 0.4 of the time for ten frames a second with one every ten frames.
        know(hub, fast=20.0, parts=(10.0,) * 40)
        assert (hub.capacity(fps=10, size=SIZE), hub.capacity(fps=5, size=SIZE), hub.bound_ms) == (1, 3, 0)
        first = hub.open("first", fps=10, size=SIZE)
        assert (hub.capacity(fps=10, size=SIZE), hub.spacing, hub.bound_ms) == (0, 1, 30)
        with pytest.raises(RuntimeError, match="'more', got none: there is time for S_h every 16 .*give over='lower'"):
            hub.open("more", fps=10, size=SIZE)
        with pytest.raises(RuntimeError, match="with 2 videos a frame may wait 50 ms, and labels .* take 100%"):
            hub.open("more", fps=40, size=SIZE, over="lower")
        assert set(hub.videos) == {"first"} and hub.spacing == 1
        with pytest.warns(RuntimeWarning, match="there is time for S_h every 16 frames of 2 videos: key frames of all"):
            more = hub.open("more", fps=10, size=SIZE, over="lower")
        assert hub.spacing == 16
        for video in (first, more):
            schedule = video._seat.engine.schedule
            assert schedule.policy.least == schedule.age_bound == 16
        more.close()
        assert hub.spacing == 1 and first._seat.engine.schedule is first._seat.schedule


def test_a_closed_hub_takes_no_more(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1)
    hub.close()
    gate.close()
    with pytest.raises(RuntimeError, match="Hub: expected an open hub, got a closed one; make another"):
        hub.open("yard", fps=1)
    assert gate.submit(frames(1)[0]) is False and list(gate) == []


def test_a_hub_that_is_dropped_ends_its_thread(tiny_network):
    hub = lowlat.Hub(tiny_network, cores=1)
    thread = hub._runner._thread
    del hub
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_batches_label_as_single_passes_do(tiny_network):
    """The first frames of two videos wait for each other's, so that their passes form a batch."""
    given = frames(2)
    with opened(tiny_network) as hub:
        machine = hub._passes._machine
        lows = [hub._runner.call(lambda frame=frame: hub._prepared.lower(frame)) for frame in given]

        def whole(passes):
            parts = machine.parts(passes)
            while True:
                try:
                    next(parts)
                except StopIteration as last:
                    return last.value

        def of(*lows):
            return [type("P", (), {"low": low}) for low in lows]

        together = hub._runner.call(lambda: whole(of(*lows)))
        alone = [hub._runner.call(lambda low=low: whole(of(low)))[0] for low in lows]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one.features, other.features)
            assert one.size == other.size and one.features.untyped_storage().nbytes() == one.features.nbytes
