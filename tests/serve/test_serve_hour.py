"""An hour's worth of frames through the service, with all that goes wrong in an hour: the account stays whole, and
nothing grows."""

import gc
import json
import os
import threading
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import numpy as np
import pytest
from running_service import SIZE, balanced, running
from waiting import until

import lowlat.serve.service as service_module
from lowlat.serve.service import DEFAULT_FPS

HOUR = int(3600 * DEFAULT_FPS)
pytestmark = pytest.mark.usefixtures("one_thread")


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def break_some(prepared, monkeypatch):
    """Every 11th pass of S_h raises, and S_l on every 499th frame; how often that happened."""
    counts = {"passes": 0, "frames": 0}
    higher_parts, lower = prepared.higher_parts, prepared.lower

    def failing_parts(low):
        counts["passes"] += 1
        if counts["passes"] % 11 == 0:
            raise ArithmeticError("S_h broke")
        return higher_parts(low)

    def failing_lower(frame):
        counts["frames"] += 1
        if counts["frames"] % 499 == 0:
            raise ArithmeticError("S_l broke")
        return lower(frame)

    monkeypatch.setattr(prepared, "higher_parts", failing_parts)
    monkeypatch.setattr(prepared, "lower", failing_lower)
    return counts


class Crowd:
    """Clients that come and go until the end: some read, some don't, some leave in the middle of a picture."""

    def __init__(self, client):
        self.client, self.ending, self.visits = client, threading.Event(), 0
        self.threads = [
            threading.Thread(target=self.visit, args=(kind,)) for kind in (self.read, self.watch, self.wall)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()

    def visit(self, kind):
        while not self.ending.wait(0.05):
            kind()
            self.visits += 1

    def read(self):
        with self.client.socket("videos/gate/results?labels=rle") as one, self.client.socket("events"):
            # Towards the end no more come.
            with suppress(TimeoutError):
                json.loads(one.recv(timeout=2))

    def watch(self):
        with self.client.socket("videos/gate/pictures") as socket:
            socket.send("next")
            with suppress(TimeoutError):
                socket.recv(timeout=2)
            socket.send("next")

    def wall(self):
        connection = HTTPConnection("127.0.0.1", self.client.port, timeout=60)
        connection.request("GET", "/videos/gate/overlay.mjpg")
        connection.getresponse().read(100)
        connection.close()


def give(video, frames, seed):
    """Frames in the rhythm of a bad source: paced by their labels, in bursts that are too fast, and with stalls."""
    random = np.random.default_rng(seed)
    next_one = video.labelled.counts()["captured"]
    end = next_one + frames
    while next_one < end:
        for index in range(next_one, min(next_one + int(random.integers(1, 8)), end)):
            frame = random.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
            assert video.labelled.submit(frame, index / 25) == index
            next_one = index + 1
        if random.random() < 0.003:
            time.sleep(0.3)
        until(lambda: video.labelled.counts()["under_way"] == 0, "the end of the work", pause=0.001)


@pytest.mark.thorough
def test_an_hour_of_frames_is_accounted_for_and_nothing_grows(tiny_network, monkeypatch):
    with ExitStack() as stack:
        client = stack.enter_context(running(tiny_network))
        video = client.service.open(None, "gate")
        other = client.service.open(None, "yard")
        for one in (video, other):
            # A first frame fails with its pass; those that are counted below fail for themselves.
            give(one, 1, 0)
        broken = break_some(client.service.labelling._hub._prepared, monkeypatch)
        memory = []
        with Crowd(client) as crowd:
            for part in range(6):
                give(video, HOUR // 6, part)
                give(other, 50, part)
                gc.collect()
                memory.append((resident_mb(), threading.active_count(), len(os.listdir("/proc/self/fd"))))
        counts = video.labelled.counts()
        assert balanced(counts) and counts["captured"] == HOUR + 1 and counts["under_way"] == 0
        assert min(counts[word] for word in ("labelled", "dropped", "failed", "passes_failed", "landings")) > 0
        assert counts["failed"] + other.labelled.counts()["failed"] == broken["frames"] // 499
        assert other.labelled.counts()["labelled"] > 0 and crowd.visits > 50
        # The first part fills what has a bound: the history, the allocator's reserves.
        before, after = np.max(memory[1:3], 0), np.max(memory[-2:], 0)
        assert after[0] < before[0] + 30, memory
        assert after[1] <= before[1] + 3 and after[2] <= before[2] + 6, memory
        assert len(video.labelled._frames) <= 10
    assert client.service.videos() == []


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Hub.close")
def test_a_network_that_hangs_does_not_keep_the_service(tiny_network, monkeypatch):
    going_on = threading.Event()
    monkeypatch.setattr(service_module, "CLOSED_S", 0.5)
    try:
        with running(tiny_network) as client:
            video = client.service.open(None, "gate")
            monkeypatch.setattr(client.service.labelling._hub._prepared, "lower", lambda frame: going_on.wait())
            video.labelled.submit(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
            # Leaving the block ends the service, and fails where that takes longer than a minute.
    finally:
        going_on.set()
