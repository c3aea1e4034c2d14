"""What comes out of the service: results over a WebSocket, overlays, answers to frames that are posted."""

import base64
import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from running_service import SIZE, balanced, picture, running
from waiting import until

import lowlat.serve.labelling as labelling_module
import lowlat.serve.service as service_module
from lowlat.serve.history import OUTCOMES
from lowlat.serve.labelling import Labelling
from lowlat.serve.names import named_source, named_sources

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def service(tiny_network, clip):
    with running(tiny_network, [str(clip)]) as client:
        until(lambda: client.video("clip")["counts"]["labelled"] > 2, "labels")
        yield client


def decode(runs, size):
    classes, lengths = zip(*runs, strict=True)
    return np.repeat(np.uint8(classes), lengths).reshape(size)


def test_results_come_with_all_that_is_known_of_them(service):
    with service.socket("videos/clip/results") as socket:
        one, other = (json.loads(socket.recv(timeout=60)) for _ in range(2))
    assert other["index"] > one["index"] and other["captured_at"] > one["captured_at"]
    assert one["latency_ms"] > 0 and one["age"] >= 0 and one["size"] == [48, 64]
    assert {"key", "degraded", "landed", "startup", "time_s"} <= one.keys() and "runs" not in one


def test_labels_are_the_same_as_png_and_as_runs(service):
    service.json("POST", "/videos", {"name": "still"})
    with (
        service.socket("videos/still/results?labels=png") as png,
        service.socket("videos/still/results?labels=rle") as rle,
    ):
        status, answer = service.json("POST", "/videos/still/frames?wait=30", picture(90))
        assert status == 200
        as_png, as_runs = json.loads(png.recv(timeout=60)), json.loads(rle.recv(timeout=60))
    assert as_png["index"] == as_runs["index"] == answer["index"] == 0
    image = Image.open(io.BytesIO(base64.b64decode(as_png["png"])))
    labels = decode(as_runs["runs"], as_runs["size"])
    assert labels.shape == SIZE[::-1] and np.array_equal(np.asarray(image), labels)
    assert np.array_equal(labels, decode(answer["runs"], answer["size"]))
    assert image.getpalette()[:33] == [part for colour in service.service.classes.palette for part in colour]
    assert service.ask("DELETE", "/videos/still")[0] == 204


def test_a_posted_frame_is_answered_with_its_labels_as_a_png(service):
    service.json("POST", "/videos", {"name": "posted"})
    status, headers, data = service.ask("POST", "/videos/posted/frames?wait=30&labels=png", picture(10))
    assert status == 200 and headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(data)).size == SIZE and json.loads(headers["x-lowlat-result"])["startup"]
    status, answer = service.json("POST", "/videos/posted/frames", picture(20))
    assert (status, answer) == (202, {"index": 1})
    service.ask("DELETE", "/videos/posted")


def test_frames_over_a_socket_make_a_video_that_goes_with_it(service):
    with service.socket("videos/phone/frames") as socket:
        for index in range(3):
            socket.send(picture(index * 40))
            assert json.loads(socket.recv(timeout=60)) == {"index": index}
        counts = until(lambda: (c := service.video("phone")["counts"])["under_way"] == 0 and c, "labels")
        assert counts["captured"] == 3 and counts["labelled"] >= 1 and balanced(counts)
    until(lambda: service.json("GET", "/videos/phone")[0] == 404, "the video gone")


def test_the_overlay_is_a_stream_of_pictures(service):
    stream = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    stream.request("GET", "/videos/clip/overlay.mjpg")
    answer = stream.getresponse()
    assert answer.getheader("content-type") == "multipart/x-mixed-replace; boundary=lowlat-picture"
    pictures = []
    for _ in range(2):
        assert answer.readline().strip() == b"--lowlat-picture"
        fields = dict(iter(lambda: tuple(answer.readline().strip().split(b": ")), (b"",)))
        pictures.append(answer.read(int(fields[b"Content-Length"])))
        assert answer.readline() == b"\r\n"
    stream.close()
    assert pictures[0] != pictures[1]
    for data in (*pictures, service.ask("GET", "/videos/clip/overlay.jpg")[2]):
        width, height = Image.open(io.BytesIO(data)).size
        assert width == SIZE[0] and height > SIZE[1], "the legend is part of the picture"


def test_the_page_gets_frame_and_labels_in_one_message(service):
    with service.socket("videos/clip/pictures") as socket:
        socket.send("next")
        data = socket.recv(timeout=60)
        length = int.from_bytes(data[:4], "big")
        about, rest = json.loads(data[4 : 4 + length]), data[4 + length :]
        frame, labels = rest[: about["jpeg"]], rest[about["jpeg"] :]
        assert Image.open(io.BytesIO(frame)).size == Image.open(io.BytesIO(labels)).size == SIZE
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.5)


def test_events_tell_all_there_is_once(service):
    with service.socket("events") as socket:
        first, second = (json.loads(socket.recv(timeout=60)) for _ in range(2))
    assert first["classes"]["names"] == list(service.service.classes.names) and "classes" not in second
    (video,) = [video for video in second["videos"] if video["name"] == "clip"]
    assert video["state"] == "live" and balanced(video["counts"]) and sum(video["shares"]) == pytest.approx(1, abs=0.01)
    seen = [sample[0] for message in (first, second) for video in message["videos"] for sample in video["samples"]]
    assert len(seen) == len(set(seen)) > 2
    assert video["figures"]["baseline_ms"] > 0


def test_metrics_are_the_accounts(service):
    status, headers, data = service.ask("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(data.decode()) for sample in family.samples]
    values = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
    of = ("video", "clip")
    ended = sum(values["lowlat_frames_total", ("outcome", word), of] for word in OUTCOMES)
    assert values["lowlat_frames_captured_total", of] == ended + values["lowlat_frames_under_way", of] > 0
    assert values["lowlat_live", of] == 1 and values["lowlat_latency_median_ms", of] > 0


def test_health_tells_states_and_no_names(service):
    status, answer = service.json("GET", "/healthz")
    assert (status, answer) == (200, {"status": "ok", "videos": {"live": 1}})


def test_health_tells_of_frames_that_get_no_labels(tiny_network, monkeypatch):
    going_on = threading.Event()
    with running(tiny_network) as client:
        assert client.json("POST", "/videos", {"name": "stuck"})[0] == 201
        prepared = client.service.labelling._hub._prepared
        lower = prepared.lower
        monkeypatch.setattr(prepared, "lower", lambda frame: going_on.wait(30) and lower(frame))
        client.json("POST", "/videos/stuck/frames", picture())
        assert client.json("GET", "/healthz") == (200, {"status": "ok", "videos": {"waiting": 1}})
        monkeypatch.setattr(service_module, "STUCK_S", 0.0)
        status, answer = client.json("GET", "/healthz")
        going_on.set()
        assert (status, answer["status"]) == (503, "stuck")
        until(lambda: client.json("GET", "/healthz")[0] == 200, "health again")


def test_labels_that_take_long_to_steady_give_way_to_newer_ones_and_the_last_are_handed_on(tiny_network, monkeypatch):
    begun, going_on, shown = threading.Event(), threading.Event(), []

    def slowly(frame, result):
        begun.set()
        assert going_on.wait(60)
        # The video is closed by now, and its last frame has its labels.
        return time.sleep(0.2) or result.labels

    monkeypatch.setattr(labelling_module, "Steady", lambda: slowly)
    with Labelling(tiny_network, size=SIZE[::-1], cores=1, steady=True) as labelling:
        video = labelling.open("gate", 4.0, lambda labelled: shown.append(labelled.result.index))
        for count in range(1, 5):
            video.submit(np.full((*SIZE[::-1], 3), 50 * count, np.uint8))
            until(lambda labelled=count: video.counts()["labelled"] == labelled, "labels")
            assert begun.wait(60)
        threading.Timer(0.2, going_on.set).start()
        assert video.finish(30)
        assert shown == [0, 3] and balanced(video.counts())


def test_where_there_is_no_room_all_videos_get_fewer_frames_until_there_is(tiny_network, monkeypatch):
    with Labelling(tiny_network, size=SIZE[::-1], cores=1) as labelling:
        hub = labelling._hub
        first = labelling.open("first", 4.0, lambda labelled: None)
        really, rates = hub.open, []

        def refusing(name, *, fps, **options):
            rates.append((fps, first.fps))
            if fps > 1:
                raise RuntimeError("no room")
            return really(name, fps=fps, **options)

        monkeypatch.setattr(hub, "open", refusing)
        second = labelling.open("second", 4.0, lambda labelled: None)
        assert rates == [(4.0, 4.0), (2.0, 2.0), (1.0, 1.0)] and first.fps == second.fps == hub.videos["first"].fps == 1
        monkeypatch.setattr(type(hub), "bound_ms", 1.0)
        for rate in (2, 4, 4):
            labelling._looked_at = 0.0
            labelling.refresh()
            assert first.fps == second.fps == hub.videos["second"].fps == rate
        monkeypatch.setattr(hub, "open", lambda *_, **__: really_refused())
        with pytest.raises(RuntimeError, match="no room at all"):
            labelling.open("third", 4.0, lambda labelled: None)
        assert first.fps == 4, "who stays doesn't pay for who was refused"


def really_refused():
    raise RuntimeError("no room at all")


@pytest.mark.parametrize(
    "words, expected",
    [
        ("gate=rtsp://h/a?b=c", ("gate", "rtsp://h/a?b=c")),
        ("rtsp://h/a?b=c", (None, "rtsp://h/a?b=c")),
        ("0", (None, "0")),
    ],
)
def test_a_source_can_be_given_a_name(words, expected):
    assert named_source(words) == expected


def test_a_name_that_is_given_is_taken_for_no_other_source():
    sources = ["clip.mp4", "clip=gate.mp4", "other/clip.mp4", "clip-4=0"]
    expected = [("clip-2", "clip.mp4"), ("clip", "gate.mp4"), ("clip-3", "other/clip.mp4"), ("clip-4", "0")]
    assert named_sources(sources) == expected


def test_videos_without_a_name_get_one_that_tells_their_source(tiny_network, clip):
    with running(tiny_network, [str(clip), str(clip), "door=0"]) as client:
        assert [video["name"] for video in client.json("GET", "/videos")[1]] == ["clip", "clip-2", "door"]
