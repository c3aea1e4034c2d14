"""Users in a hurry: threads that open and close, sizes and numbers that are none, forks."""

import random
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from test_hub import PATIENCE_S, SIZE, feed, frames, know, opened
from test_programs import ended, started

import lowlat
import lowlat.hub.video as video_room
from lowlat.hub.checks import is_whole
from lowlat.hub.costs import SIZES, Costs

pytestmark = pytest.mark.usefixtures("one_thread")


def joined(*work):
    """Each on a thread; all end, and none raises."""
    raised = []

    def run(one):
        try:
            one()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads) and raised == []


def test_threads_open_feed_and_close_videos_at_once(tiny_network):
    with opened(tiny_network) as hub:

        def come_and_go(name):
            pick = random.Random(name)
            for _ in range(8):
                with hub.open(name, fps=1, on_result=lambda result: 1 / (result.index % 2)) as video:
                    for frame in frames(pick.randrange(6), pick.choice([SIZE, (40, 56)])):
                        video.submit(frame)
                        assert video.counts.waiting >= 0
                    hub.capacity(fps=0.001), hub.bound_ms, hub.videos
                counts = video.counts
                assert counts.waiting == 0 and counts.submitted == counts.labelled + counts.dropped + counts.failed

        joined(*(lambda name=name: come_and_go(name) for name in "abcd"))
        assert hub.videos == {}


@pytest.mark.parametrize("place", ["hub", "videos"])
def test_all_is_closed_at_once_while_frames_are_in_flight(tiny_network, place):
    for _ in range(5):
        with opened(tiny_network) as hub:
            videos = [hub.open(str(number), fps=1) for number in range(3)]
            for video in videos:
                for frame in frames(3):
                    video.submit(frame)
            joined(*(video.close for video in videos), hub.close, *([hub.close] if place == "hub" else []))
            hub.close()
            for video in videos:
                assert video.counts.waiting == 0 and video.submit(frames(1)[0]) is False and video.closed


def test_one_video_takes_frames_of_several_threads(tiny_network, monkeypatch):
    """One at a time: two that took one number would be two frames with one index."""
    inside, most = [], []

    def watched(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(1e-3)
        inside.pop()
        return is_whole(*arguments)

    with opened(tiny_network) as hub:
        gate = hub.open("gate", fps=1)
        given = frames(1)[0]
        feed(gate, [given])
        monkeypatch.setattr(video_room, "is_whole", watched)
        joined(*[lambda: [gate.submit(given) for _ in range(30)]] * 3)
        gate.close()
        counts = gate.counts
        assert counts.submitted == 91 == counts.labelled + counts.dropped and counts.failed == 0
        assert max(most) == 1


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), np.float32(5), np.int64(3), 7])
def test_rates_are_numbers_of_any_kind(tiny_network, fps):
    with opened(tiny_network) as hub:
        assert hub.open("gate", fps=fps, size=[np.int64(48), 64]).fps == pytest.approx(float(fps))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fps": True}, "expected fps above 0, got True"),
        ({"fps": "fast"}, "expected fps above 0, got 'fast'"),
        ({"fps": -3}, "expected fps above 0, got -3"),
        ({"fps": float("inf")}, "expected fps above 0, got inf"),
        ({"fps": 1, "size": 48}, r"expected a size \(height, width\), got 48"),
        ({"fps": 1, "size": ()}, r"expected a size \(height, width\), got \(\)"),
        ({"fps": 1, "size": (48, 64, 3)}, r"expected a size \(height, width\), got \(48, 64, 3\)"),
        ({"fps": 1, "size": (48.0, 64)}, r"expected a size \(height, width\), got \(48.0, 64\)"),
        ({"fps": 1, "hold": True}, "expected to hold at least 1 result, got True"),
    ],
)
def test_what_is_no_figure_is_refused_and_takes_no_name(tiny_network, options, words):
    with opened(tiny_network) as hub:
        with pytest.raises(ValueError, match=f"Hub.open: {words}"):
            hub.open("gate", **options)
        assert hub.videos == {} and hub.open("gate", fps=1)


@pytest.mark.parametrize("index", [float("nan"), 1.5, True, "3", -1])
def test_an_index_that_is_none_is_refused(tiny_network, index):
    with opened(tiny_network) as hub:
        gate = hub.open("gate", fps=1)
        with pytest.raises(ValueError, match="Video.submit: expected an index above -1, got .*; leave it out to count"):
            gate.submit(frames(1)[0], index=index)
        feed(gate, frames(1))
        assert gate.latest().index == 0 and gate.counts.submitted == 1


def test_a_gpu_that_is_not_there_is_told_of(tiny_network):
    if torch.cuda.is_available():
        pytest.fail("run this where there is no GPU")
    with pytest.raises(RuntimeError, match="expected an NVIDIA GPU for device='cuda'.*use device='cpu'"):
        lowlat.Hub(tiny_network, device="cuda")


def test_a_video_more_is_refused_or_told_of_also_where_key_frames_are_spaced(tiny_network):
    with lowlat.Hub(tiny_network, cores=1) as hub:
        know(hub, fast=20.0, parts=(10.0,) * 40)
        hub.open("first", fps=10, size=SIZE)
        with pytest.warns(RuntimeWarning, match="every 16 frames of 2 videos"):
            hub.open("second", fps=10, size=SIZE, over="lower")
        # S_h costs less than it did, and there is still no time for it every ten frames.
        know(hub, fast=20.0, parts=(8.0,) * 40)
        assert hub.capacity(fps=0.001, size=SIZE) == 0
        with pytest.raises(RuntimeError, match="expected room for 'third', got none: there is time for S_h every"):
            hub.open("third", fps=0.001, size=SIZE)
        with pytest.warns(RuntimeWarning, match="frames of 3 videos"):
            hub.open("third", fps=0.001, size=SIZE, over="lower")


def test_key_frames_stay_spaced_where_labels_have_become_too_much(tiny_network):
    with lowlat.Hub(tiny_network, cores=1) as hub:
        know(hub, fast=20.0, parts=(10.0,) * 40)
        first = hub.open("first", fps=10, size=SIZE)
        with pytest.warns(RuntimeWarning):
            hub.open("second", fps=10, size=SIZE, over="lower")
        know(hub, fast=500.0)
        first.close()
        assert hub.spacing == 16


def test_costs_of_a_few_sizes_are_kept():
    costs = Costs()
    for size in range(3 * SIZES):
        costs.frame_took(size, 1.0)
        costs.part_took(size, 1, 0, 1.0)
        costs.pass_ended(size, 1)
    assert len(costs._fast) == SIZES and max(len(costs._parts), len(costs._passes)) <= SIZES + 1
    assert costs.passes(3 * SIZES - 1, 1) == 1 and costs.passes(0, 1) == 0


def test_a_hub_inherited_by_a_fork_is_refused_and_the_parents_goes_on():
    program = """
    import lowlat

    hub = lowlat.Hub(pixels=120 * 160, cores=1)
    gate = hub.open("gate", fps=0.001, size=(120, 160))
    given = iter(gate)
    gate.submit(cut())
    next(given)
    child = os.fork()
    if child == 0:
        for use in (
            lambda: gate.submit(cut()),
            lambda: next(gate.results()),
            gate.restart,
            lambda: hub.open("yard", fps=1),
            hub.capacity,
        ):
            try:
                use()
            except RuntimeError as error:
                print(error)
        gate.close()
        hub.close()
        sys.stdout.flush()
        del gate, hub, given
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child", status, flush=True)
    gate.submit(cut())
    print("parent", next(given).index)
    """
    status, out, errors = ended(started(program))
    said = ["Hub: expected the process that made the hub, got a fork of it; make one in the child"] * 5
    assert (status, out.splitlines(), errors) == (0, [*said, "child 0", "parent 1"], "")
