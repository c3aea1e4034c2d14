"""Frames of another size on their way to an engine: it starts up again, also where frames are begun early."""

import threading

import pytest
from fake_device import FakeDevice
from stream_runs import build, deferred

from lowlat.jobs.live import Tally, _Passing, label_frames
from lowlat.runtime import FrameBuffer
from lowlat.schedule import Every

# The fake device takes numbers for frames, from 1000 on of another size.
NUMBERS = [*range(20), *range(1000, 1020), *range(40, 60)]


class Numbered(int):
    """A frame of the fake device that tells its size as an array does."""

    @property
    def shape(self):
        return (8, 8, 3) if self < 1000 else (9, 9, 3)


@pytest.mark.parametrize("lookahead", [False, True], ids=["", "ahead"])
def test_an_engine_starts_up_again_for_frames_of_another_size(lookahead):
    engine, seen, tally = build(deferred(Every(3)), FakeDevice()), [], Tally()
    frames = (Numbered(number) for number in NUMBERS)
    overload = "wait" if lookahead else None
    label_frames(engine, frames, lambda frame, result: seen.append((frame, result)), tally, overload=overload)
    assert [(frame, result.labels[1]) for frame, result in seen] == [(number, number) for number in NUMBERS]
    assert [index for index, (_, result) in enumerate(seen) if result.startup] == [0, 20, 40]


def test_a_frame_of_another_size_is_not_begun_early():
    """All frames are there at once, so that each of the same size is begun while the one before is under way."""
    engine, buffer = build(deferred(Every(3)), FakeDevice()), FrameBuffer("wait", capacity=len(NUMBERS))
    for number in NUMBERS:
        buffer.put(Numbered(number))
    buffer.end()
    results = list(engine.run(_Passing(buffer, engine.restart, lambda: False)))
    assert [result.labels[1] for result in results] == NUMBERS
    assert [result.index for result in results if result.startup] == [0, 20, 40]


def test_silence_is_no_stall_while_the_source_is_away():
    """The source is away for longer than a stall takes, comes back, and falls silent for good."""
    engine, seen, away = build(deferred(Every(3)), FakeDevice()), [], threading.Event()
    borne = threading.Semaphore(0)

    def is_away():
        borne.release()
        return away.is_set()

    def source():
        yield 0
        away.set()
        for _ in range(3):
            assert borne.acquire(timeout=30)
        yield 1
        away.clear()
        threading.Event().wait(30)

    with pytest.raises(TimeoutError):
        label_frames(
            engine,
            source(),
            lambda frame, result: seen.append(frame),
            Tally(),
            overload="drop-oldest",
            stall_s=0.05,
            away=is_away,
        )
    assert seen == [0, 1]
