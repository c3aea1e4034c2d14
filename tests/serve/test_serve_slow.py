"""Who is slow, or stops reading, misses frames; he neither delays a camera nor builds a queue."""

import json
import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest
from running_service import running
from waiting import until

import lowlat.serve.service as made
from lowlat.runtime import FrameResult
from lowlat.serve.labelling import Labelled
from lowlat.serve.pictures import decoded

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES = 150
LARGE = (320, 240)


@pytest.fixture(scope="module")
def service(tiny_network):
    with running(tiny_network) as client:
        yield client


def noise(index):
    return np.random.default_rng(index).integers(0, 256, (LARGE[1], LARGE[0], 3), np.uint8)


def give(video, first=0, frames=FRAMES):
    """Frames, each when the one before has its labels; what their latencies are."""
    for index in range(first, first + frames):
        assert video.labelled.submit(noise(index)) == index
        until(lambda index=index: video.labelled.counts()["labelled"] > index, "labels")


def put_results(video, frames):
    """Results whose labels are noise, 20 kB of run lengths each, one after another as the service can send them."""
    for index in range(frames):
        labels = np.random.default_rng(index).integers(0, 11, (48, 64), np.uint8)
        video.latest.put(Labelled(labels, FrameResult(index, labels, 0), time.time()))
        time.sleep(0.005)


def connected(port):
    """A connection whose receiving end holds little."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(60)
    raw.connect(("127.0.0.1", port))
    return raw


def test_a_client_that_stops_reading_gets_the_newest_when_it_goes_on(service):
    video = service.service.open(None, "stops")
    raw = connected(service.port)
    with service.socket("videos/stops/results?labels=rle", sock=raw) as stopped:
        put_results(video, FRAMES)
        read = [json.loads(stopped.recv(timeout=60))]
        size = len(json.dumps(read[0]))
        assert size * FRAMES > 2_000_000, "what was sent would have fitted into buffers"
        while read[-1]["index"] < FRAMES - 1:
            read.append(json.loads(stopped.recv(timeout=60)))
    indices = [message["index"] for message in read]
    assert indices == sorted(set(indices))
    # What the buffers of the sockets and of the client's library held, and the newest one.
    assert len(read) < FRAMES / 3
    service.service.close_video("stops")


def test_a_viewer_of_the_page_never_has_more_than_it_asked_for(service):
    video = service.service.open(None, "asks")
    with service.socket("videos/asks/pictures") as viewer:
        for _ in range(50):
            viewer.send("next")
        give(video, frames=20)
        seen = [int.from_bytes(data[:4], "big") and about(data) for data in (viewer.recv(timeout=60) for _ in range(2))]
        with pytest.raises(TimeoutError):
            viewer.recv(timeout=0.5)
        give(video, 20, 10)
        viewer.send("next")
        assert about(viewer.recv(timeout=60))["index"] == 29
    assert seen[0]["index"] < seen[1]["index"] < 20
    service.service.close_video("asks")


def about(data):
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])


def test_an_overlay_that_nobody_reads_delays_no_frame(service):
    video = service.service.open(None, "wall")
    give(video, frames=1)
    walls = [connected(service.port) for _ in range(5)]
    for wall in walls:
        wall.sendall(b"GET /videos/wall/overlay.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    give(video, 1)
    # Each frame was waited for above: had one been held up by a wall, it would not have got its labels.
    assert video.labelled.counts()["labelled"] == FRAMES + 1
    for wall in walls:
        wall.close()
    service.service.close_video("wall")


def test_a_client_that_sends_faster_than_labels_come_drops_the_older_frames(service):
    video = service.service.open(None, "fast")
    for index in range(200):
        video.labelled.submit(noise(index % 5))
    counts = until(lambda: (c := video.labelled.counts())["under_way"] == 0 and c, "the end of the work")
    assert counts["captured"] == 200 == counts["labelled"] + counts["dropped"] and counts["dropped"] > 0
    until(lambda: video.latest.item.result.index == 199, "the newest frame, which wins")
    service.service.close_video("fast")


def test_viewers_share_what_is_made_for_them(service, monkeypatch):
    count = []
    real = made.page_picture
    monkeypatch.setattr(made, "page_picture", lambda *arguments: count.append(1) or real(*arguments))
    video = service.service.open(None, "shared")
    give(video, frames=1)
    with ExitStack() as stack:
        viewers = [stack.enter_context(service.socket("videos/shared/pictures")) for _ in range(4)]
        for viewer in viewers:
            viewer.send("next")
        messages = {viewer.recv(timeout=60) for viewer in viewers}
    assert len(messages) == 1 and len(count) == 1
    head = messages.pop()
    length = 4 + int.from_bytes(head[:4], "big")
    assert decoded(head[length : length + about(head)["jpeg"]]).shape == (LARGE[1], LARGE[0], 3)
    service.service.close_video("shared")
