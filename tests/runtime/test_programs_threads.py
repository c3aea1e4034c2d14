"""A segmenter that is dropped, or used by two threads at once."""

import threading
import weakref

import numpy as np
import pytest
import torch
from places import at

from lowlat.runtime.gpu import driver
from lowlat.schedule import Every
from lowlat.segmenter import VideoSegmenter

PATIENCE_S = 60
"""Only ever waited for when a test fails."""

PLACES = [
    ("cpu", "segment"),
    ("cpu", "priority"),
    *((place, isolation) for place in ("stand-in", "fake") for isolation in ("segment", "priority")),
]


@pytest.fixture
def frames():
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 255, (40, 56, 3), dtype=np.uint8) for _ in range(6)]


@pytest.fixture(params=PLACES, ids=lambda place: "-".join(place))
def make(request, tiny_network, one_thread):
    place, isolation = request.param
    with at(place) as device:
        yield lambda: VideoSegmenter(
            tiny_network, device=device, policy=Every(2), isolation=isolation, pixels=None, **CORES.get(place, {})
        )


CORES = {"cpu": {"cores": 2}}


def streams_given_back():
    return sum(map(len, driver._idle.values()))


@pytest.mark.parametrize("use", ["step", "run", "an unfinished run"])
def test_a_segmenter_that_is_dropped_gives_back_its_thread_and_its_streams(make, frames, use):
    """At once, and without the garbage collector."""
    count, before = torch.get_num_threads(), set(threading.enumerate())
    segmenter = make()
    if use == "step":
        for frame in frames:
            segmenter.step(frame)
    else:
        results = segmenter.run(frames)
        for _ in range(6 if use == "run" else 3):
            next(results)
    engine, taken = weakref.ref(segmenter._engine), getattr(segmenter.clock, "_taken", [])
    count_of_streams = len(taken)
    segmenter = results = None
    assert engine() is None, "somebody holds the engine"
    assert set(threading.enumerate()) == before and torch.get_num_threads() == count
    assert not taken and streams_given_back() == count_of_streams


def test_a_segmenter_that_was_closed_and_is_dropped_ends_once(make, frames):
    segmenter = make()
    segmenter.step(frames[0])
    count_of_streams = len(getattr(segmenter.clock, "_taken", []))
    segmenter.close()
    segmenter = None
    assert streams_given_back() == count_of_streams


def test_garbage_collected_on_the_segmenters_own_thread_ends_it(tiny_network, one_thread):
    """Where the last reference is dropped by what the thread itself is at."""
    segmenter = VideoSegmenter(tiny_network, cores=1, pixels=None)
    team = segmenter._engine._worker
    holder = [segmenter]
    segmenter = None
    team.run(holder.clear)
    team._thread.wait("the team's thread", PATIENCE_S)
    assert not team._thread.is_alive()


class Source:
    """A frame, then a wait for `go`, then a frame."""

    def __init__(self, frames):
        self.frames, self.waits, self.go = frames, threading.Event(), threading.Event()

    def __iter__(self):
        yield self.frames[0]
        self.waits.set()
        assert self.go.wait(PATIENCE_S)
        yield self.frames[1]


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


WORDS = "expected one thread at a time, got two at once; make a VideoSegmenter for each thread, or hold a lock"


@pytest.mark.parametrize("method", ["step", "run", "restart"])
def test_a_second_thread_is_refused_in_words_while_the_first_is_in_the_segmenter(make, frames, method):
    source, answered = Source(frames), []
    with make() as segmenter:
        results = segmenter.run(source)
        use = {
            "step": lambda: segmenter.step(frames[2]),
            "run": lambda: next(results),
            "restart": segmenter.restart,
        }[method]
        thread = in_thread(lambda: answered.extend(results))
        assert source.waits.wait(PATIENCE_S)
        with pytest.raises(RuntimeError, match=rf"^VideoSegmenter\.{method}: {WORDS}$"):
            use()
        source.go.set()
        thread.join(PATIENCE_S)
        assert [result.index for result in answered] == [0, 1]
        assert segmenter.step(frames[2]).index == 2, "one after the other they may"


def test_of_two_threads_at_once_every_frame_is_answered_or_refused_in_words(make, frames):
    wrong, refused, answered = [], [], []

    def use(segmenter):
        for _ in range(30):
            try:
                answered.append(segmenter.step(frames[0]).index)
            except RuntimeError as error:
                (refused if str(error).startswith("VideoSegmenter.step: ") else wrong).append(error)
            except BaseException as error:
                wrong.append(error)

    with make() as segmenter:
        for thread in [in_thread(lambda: use(segmenter)) for _ in range(2)]:
            thread.join(PATIENCE_S)
    assert not wrong, wrong
    assert len(answered) + len(refused) == 60 and sorted(answered) == list(range(len(answered)))


def test_a_segmenter_closed_by_another_thread_says_so_to_the_first(make, frames):
    for _ in range(5):
        segmenter, said, answered = make(), [], threading.Event()

        def use(segmenter=segmenter, said=said, answered=answered):
            try:
                while True:
                    segmenter.step(frames[0])
                    answered.set()
            except BaseException as raised:
                said.append(raised)

        thread = in_thread(use)
        assert answered.wait(PATIENCE_S)
        segmenter.close()
        thread.join(PATIENCE_S)
        (error,) = said
        assert isinstance(error, RuntimeError) and "expected an open engine, got a closed one" in str(error)


def test_a_restart_from_within_the_source_is_the_same_threads(make, frames):
    with make() as segmenter:

        def source():
            yield frames[0]
            segmenter.restart()
            yield frames[1]

        assert [result.startup for result in segmenter.run(source())] == [True, True]
