"""An hour's worth of frames through a hub with all that goes wrong in an hour: the account stays whole, and nothing
grows. And what `capacity` says, by use."""

import gc
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from test_hub import PATIENCE_S, SIZE, opened

import lowlat
from lowlat.schedule import Every

HOUR = 10 * 3600
"""Frames of an hour, at ten a second."""

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_thread")]


def test_an_hour_of_frames_is_accounted_for_and_nothing_grows(tiny_network, monkeypatch):
    random, ending, visits = np.random.default_rng(0), threading.Event(), []
    given = {size: random.integers(0, 256, (*size, 3), np.uint8) for size in (SIZE, (40, 56))}
    with opened(tiny_network) as hub:
        parts, passes = hub._prepared.higher_parts, []

        def failing(low):
            passes.append(None)
            if len(passes) % 11 == 0:
                raise ArithmeticError("S_h broke")
            return parts(low)

        monkeypatch.setattr(hub._prepared, "higher_parts", failing)
        videos = [hub.open(str(number), fps=1, policy=Every(3)) for number in range(3)]

        def read():
            """A client that comes, reads for a while, and goes."""
            while not ending.is_set():
                for count, _ in enumerate(videos[len(visits) % 3].results()):
                    if count == 5 or ending.is_set():
                        break
                visits.append(None)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        memory, submitted = [], 0
        tracemalloc.start()
        try:
            for part in range(6):
                while submitted < HOUR * (part + 1) // 6:
                    # A burst, of which some are dropped, then a stall: all of it is waited for.
                    for video in videos:
                        size = (40, 56) if random.random() < 0.002 else SIZE
                        for _ in range(random.integers(1, 5)):
                            video.submit(given[size])
                            submitted += 1
                    for video in videos:
                        counts = video.counts
                        video._seat.wait_for(counts.submitted - video.counts.dropped)
                        counts = video.counts
                        assert counts.waiting == 0
                        assert counts.submitted == counts.labelled + counts.dropped + counts.failed
                visits.clear()
                gc.collect()
                memory.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
            ending.set()
            hub.close()
            for reader in readers:
                reader.join(PATIENCE_S)
        assert not any(reader.is_alive() for reader in readers)
        assert sum(video.counts.submitted for video in videos) == submitted >= HOUR
        for counts in (video.counts for video in videos):
            assert min(counts.labelled, counts.dropped, counts.schedule.failures, counts.schedule.landings) > 0
        assert max(memory[-2:]) < max(memory[1:3]) + 300_000, memory


@pytest.mark.serial
def test_one_video_of_lite_too_many_is_refused_or_spaces_all_key_frames():
    """Costs are those of this machine, whatever they are."""
    size, fps = (96, 128), 2.0
    with lowlat.Hub("lite", pixels=96 * 128) as hub:
        most = hub.capacity(fps, size=size)
        assert most >= 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first = hub.open("0", fps=fps, size=size)
        rest = max(0, hub.capacity(fps, size=size))
        for number in range(1, rest + 1):
            hub.open(str(number), fps=fps, size=size)
        assert hub.capacity(fps, size=size) == 0 and hub.spacing == 1
        with pytest.raises(RuntimeError, match="expected room for 'more', got none"):
            hub.open("more", fps=fps, size=size)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                more = hub.open("more", fps=fps, size=size, over="lower")
            except RuntimeError as error:
                assert "a frame may wait" in str(error), "labels alone are too much"
                more = None
        if more is not None:
            assert any("key frames of all are spaced so with 'more'" in str(one.message) for one in told)
            assert hub.spacing > 1
            for video in (first, more):
                assert video._seat.engine.schedule.policy.least == hub.spacing
