"""The service over two hubs on a Ray cluster of this machine: one of them is killed, and its videos go on."""

import asyncio
import base64
import http.client
import io
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from PIL import Image
from program import Program
from prometheus_client.parser import text_string_to_metric_families
from running_service import SIZE, Client, balanced, picture
from timed_clips import write_clip
from typer.testing import CliRunner
from waiting import until
from websockets.exceptions import ConnectionClosed

from lowlat import models
from lowlat.cli import app
from lowlat.lab.weights import save
from lowlat.serve.many.hub import _Connection
from lowlat.serve.many.replicas import by_room

AGAIN_S = 90
"""Within that a video must go on whose replica was killed. It takes about two seconds where nothing else runs."""


def context(room, videos, target=None, bounds=(1, 4)):
    return SimpleNamespace(
        aggregated_metrics={"room": room, "videos": videos},
        target_num_replicas=len(room) if target is None else target,
        capacity_adjusted_min_replicas=bounds[0],
        capacity_adjusted_max_replicas=bounds[1],
    )


@pytest.mark.parametrize(
    "asked, wanted",
    [
        (context({"a": 0}, {"a": 3}), 2),
        (context({"a": 0, "b": 0}, {"a": 3, "b": 3}), 3),
        (context({"a": 1, "b": 0}, {"a": 2, "b": 3}), 2),
        (context({"a": 0}, {"a": 3}, target=2), 2),
        (context({"a": 0}, {"a": 3}, bounds=(1, 1)), 1),
        (context({"a": 3, "b": 2}, {"a": 0, "b": 1}), 1),
        (context({"a": 3, "b": 2}, {"a": 2, "b": 1}), 2),
        (context({"a": 3, "b": 3}, {"a": 0, "b": 0}, bounds=(2, 4)), 2),
        (context({}, {}, target=1), 1),
    ],
)
def test_replicas_come_where_there_is_no_room_and_go_where_there_is_enough(asked, wanted):
    assert by_room(asked)[0] == wanted


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_is_one_that_ray_serve_takes():
    from ray.serve.config import AutoscalingPolicy

    policy = AutoscalingPolicy(policy_function=f"{by_room.__module__}:by_room")
    assert policy.get_policy()(context({"a": 0}, {"a": 3}))[0] == 2


def test_of_a_connection_nothing_is_made_that_is_not_taken():
    async def main():
        made = []

        async def endless(scope, receive, send):
            while (await receive())["type"] == "first":
                for number in range(1000):
                    made.append(number)
                    await send({"number": number})

        connection = _Connection(endless, {}, {"type": "first"})
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(made) == 2
        taken = [(await connection.take())["number"] for _ in range(1000)]
        connection.incoming.put_nowait({"type": "last"})
        assert taken == list(range(1000)) and await connection.take() is None and await connection.take() is None

    asyncio.run(main())


@pytest.mark.parametrize(
    "words, said",
    [
        (("--replicas", "2"), "--ray"),
        (("--cores", "2"), "--ray"),
        (("--ray", "local", "--replicas", "3", "--max-replicas", "2"), "--max-replicas"),
        (("--ray", "127.0.0.1:9"), "expected a cluster"),
    ],
)
def test_bad_words_are_told_in_one_line(words, said):
    result = CliRunner().invoke(app, ["serve", "--port", "0", *words])
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1


def offspring(process):
    """Return the processes that a process has started, and those that these have, by their numbers."""
    found = {process}
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A service of two videos on two hubs, and a third that clients send."""
    folder = tmp_path_factory.mktemp("many")
    for name in ("front", "rear"):
        write_clip(folder / f"{name}.mp4")
    network = models.build("lite", classes=3)
    network.pixels = SIZE[0] * SIZE[1]
    save(network, folder / "small.safetensors")
    sources = [word for name in ("front", "rear") for word in ("--source", folder / f"{name}.mp4")]
    words = ("--ray", "local", "--replicas", "2", "--weights", folder / "small.safetensors", *sources)
    with Program(*words, "--allow-source", folder / "front.mp4") as program:
        client = Client(int(program.address.rstrip("/").rpartition(":")[2]), None)
        client.program, client.folder = program, folder
        until(lambda: all(client.video(name)["counts"]["labelled"] for name in ("front", "rear")), "labels", 120)
        yield client
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(120)


def marked(test):
    """This runs in `make check`, and alone: a cluster keeps all cores busy when it starts."""
    return pytest.mark.serial(pytest.mark.thorough(test))


@marked
def test_the_answers_are_those_of_one_machine(many):
    videos = many.json("GET", "/videos")[1]
    assert [video["name"] for video in videos] == ["front", "rear"]
    assert all(video["state"] == "live" and balanced(video["counts"]) for video in videos)
    assert many.json("GET", "/healthz") == (200, {"status": "ok", "videos": {"live": 2}})
    metrics = many.ask("GET", "/metrics")[2].decode()
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]
    live = {sample.labels["video"]: sample.value for sample in samples if sample.name == "lowlat_live"}
    assert live == {"front": 1, "rear": 1}
    assert b"<html" in many.ask("GET", "/")[2] and many.ask("GET", "/page.js")[0] == 200
    assert Image.open(io.BytesIO(many.ask("GET", "/videos/rear/overlay.jpg")[2])).width == SIZE[0]
    with many.socket("videos/front/results?labels=png") as socket:
        one, other = (json.loads(socket.recv(timeout=60)) for _ in range(2))
    assert other["index"] > one["index"] and Image.open(io.BytesIO(base64.b64decode(one["png"]))).size == SIZE
    with many.socket("videos/rear/pictures") as socket:
        socket.send("next")
        data = socket.recv(timeout=60)
        about = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
        assert about["size"] == [SIZE[1], SIZE[0]]
    with many.socket("events") as socket:
        first, second = (json.loads(socket.recv(timeout=60)) for _ in range(2))
    assert len(first["classes"]["names"]) == 3 and "classes" not in second
    for name in ("front", "rear"):
        seen = [
            s[0] for message in (first, second) for v in message["videos"] if v["name"] == name for s in v["samples"]
        ]
        assert seen and seen == sorted(set(seen))


@marked
def test_videos_are_opened_and_closed_and_take_frames_of_clients(many):
    assert many.json("POST", "/videos", {"name": "door"})[0] == 201
    status, answer = many.json("POST", "/videos/door/frames?wait=30", picture(90))
    assert status == 200 and answer["startup"] and sum(length for _, length in answer["runs"]) == SIZE[0] * SIZE[1]
    assert many.json("POST", "/videos/door/frames", b"no picture")[0] == 400
    assert many.json("POST", "/videos", {"name": "door"})[0] == 400
    assert many.ask("DELETE", "/videos/door")[0] == 204
    for path in ("/videos/door", "/videos/door/overlay.jpg", "/videos/door/overlay.mjpg"):
        assert many.json("GET", path)[0] == 404
    assert many.json("POST", "/videos", {"source": str(many.folder / "rear.mp4")})[0] == 403
    assert many.json("POST", "/videos", {"source": str(many.folder / "front.mp4"), "name": "again"})[0] == 201
    assert many.ask("DELETE", "/videos/again")[0] == 204
    assert many.ask("GET", "/videos", Host="evil.example")[0] == 421
    with many.socket("videos/phone/frames") as socket:
        socket.send(picture(40))
        assert json.loads(socket.recv(timeout=60)) == {"index": 0}
    until(lambda: many.json("GET", "/videos/phone")[0] == 404, "the video gone")
    with many.socket("videos/none/results") as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=60)
    assert closed.value.rcvd.code == 4404


def where(program, name):
    """Return the hub that has a video: its number and its process."""
    number = [one["replica"] for one in program.events if one["event"] == "video placed" and one["video"] == name][-1]
    (there,) = [one for one in program.events if one["event"] == "replica there" and one["replica"] == number]
    return number, there["process"]


def pictures_of(client, name, seen):
    """Notes when pictures of an overlay come, on a thread, until the stream ends."""
    stream = http.client.HTTPConnection("127.0.0.1", client.port, timeout=120)
    stream.request("GET", f"/videos/{name}/overlay.mjpg")
    answer = stream.getresponse()

    def read():
        while line := answer.readline():
            if line.startswith(b"--lowlat-picture"):
                seen.append(time.monotonic())

    threading.Thread(target=read, daemon=True).start()
    return stream


@marked
def test_the_videos_of_a_replica_that_is_killed_go_on_at_another(many):
    program = many.program
    number, process = where(program, "front")
    other_number, other_process = where(program, "rear")
    assert number != other_number and process != other_process, "each hub has one of the videos"
    shown = []
    stream = pictures_of(many, "front", shown)
    with many.socket("videos/front/results") as front, many.socket("videos/rear/results") as rear:
        before = json.loads(front.recv(timeout=60))
        first = json.loads(rear.recv(timeout=60))
        until(lambda: shown, "a picture")
        os.kill(process, signal.SIGKILL)
        began = time.monotonic()
        while not (after := json.loads(front.recv(timeout=AGAIN_S)))["startup"]:
            assert after["index"] > before["index"]
        assert time.monotonic() - began < AGAIN_S
        following = json.loads(front.recv(timeout=60))
        assert following["index"] > after["index"] and not following["startup"]
        began_again = time.monotonic()
        last = json.loads(rear.recv(timeout=60))
        while last["captured_at"] < after["captured_at"]:
            assert not last["startup"] and last["index"] > first["index"], "the other video has no part in it"
            last = json.loads(rear.recv(timeout=60))
    until(lambda: shown[-1] > began_again, "pictures of the same stream")
    stream.close()
    assert where(program, "front") == (other_number, other_process)
    gone = program.told("replica gone")
    assert (gone["replica"], gone["videos"]) == (number, ["front"])
    # Ray Serve has put another in its place, which takes what comes next.
    there = program.told("replica there", replica=3)
    assert there["process"] != process
    assert many.json("POST", "/videos", {"name": "late"})[0] == 201
    assert where(program, "late") == (3, there["process"])
    assert many.json("POST", "/videos/late/frames?wait=30", picture(20))[0] == 200
    assert many.json("GET", "/healthz")[0] == 200


@marked
def test_its_end_leaves_no_process(many):
    program = many.program
    started = offspring(program.process.pid)
    assert {where(program, name)[1] for name in ("front", "late")} <= started
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(120) == 0
    assert program.told("closed")
    until(lambda: not any(os.path.exists(f"/proc/{one}") for one in started), "an end of all processes", 60)


@marked
def test_a_replica_comes_where_there_is_no_room(tmp_path):
    network = models.build("lite", classes=3)
    network.pixels = SIZE[0] * SIZE[1]
    save(network, tmp_path / "small.safetensors")
    # Nothing has room for a video of so many frames a second.
    words = ("--ray", "local", "--max-replicas", "2", "--fps", "5000", "--weights", tmp_path / "small.safetensors")
    with Program(*words) as program:
        assert program.told("replica there", replica=1)["room"] == 0
        program.told("replica there", replica=2)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(120) == 0
