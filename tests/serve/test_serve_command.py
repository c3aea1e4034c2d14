"""`lowlat serve` as a program: its lines, its end, and what it refuses."""

import io
import json
import signal
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from local_cameras import HttpCamera, Refuse, Show
from PIL import Image
from program import Program
from running_service import balanced
from typer.testing import CliRunner
from waiting import until
from websockets.sync.client import connect

from lowlat.cli import app
from lowlat.lab.data.street import Street
from lowlat.schedule import Every
from lowlat.segmenter import VideoSegmenter
from lowlat.video.steady import Steady


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_all_frames_accounted_for(clip, number):
    with Program("--source", f"gate={clip}", "--pixels", "0") as program:
        until(lambda: program.get("videos/gate")["counts"]["labelled"] > 3, "labels")
        with connect(program.address.replace("http", "ws") + "videos/gate/results") as viewer:
            viewer.recv(timeout=60)
            program.process.send_signal(number)
            counts = program.told("video closed", video="gate")
            # The viewer is let go, and told that the service goes.
            for _ in viewer:
                pass
            assert viewer.protocol.close_rcvd.code in (1001, 1012)
        program.told("closed")
        assert program.process.wait(60) == 0
        assert balanced(counts) and counts["under_way"] == 0 and counts["labelled"] > 3


def test_the_log_has_an_object_a_line_and_no_secret(clip, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test\n")
    with HttpCamera([Show(5), Refuse("401 Unauthorized")]) as camera:
        words = ("--source", camera.at("admin:s3cret@"), "--token-file", token, "--pixels", "0")
        with Program(*words) as program:
            assert program.events[0]["event"].startswith("starting"), "loading takes a while: it says so"
            opened = program.told("video opened")
            assert opened["source"] == camera.at("admin:***@")
            lost = program.told(lambda event: "is lost after" in event)
            assert lost["video"] and {"time", "level"} <= lost.keys()
            with pytest.raises(urllib.error.HTTPError, match="401"):
                program.get("videos?token=another-token-given")
            request = program.told("request", status=401)
            assert request["path"] == "/videos" and request["method"] == "GET"
            program.process.send_signal(signal.SIGTERM)
            program.told("closed")
        assert "s3cret" not in json.dumps(program.events) and "token-given" not in json.dumps(program.events)


def test_steadied_labels_are_served_in_place_of_the_networks_own(one_thread):
    street, steady, held = Street(size=(96, 128), frames=6, split="val"), Steady(), 0
    words = ("--steady", "--policy", "every", "--interval", "9", "--pixels", "0")
    with Program(*words) as program, VideoSegmenter(policy=Every(9), pixels=None) as alone:
        body = json.dumps({"name": "street"}).encode()
        urllib.request.urlopen(f"{program.address}videos", body, timeout=60).close()
        for index in range(len(street)):
            frame = street.image(index).permute(1, 2, 0).numpy()
            png = io.BytesIO()
            Image.fromarray(frame).save(png, "PNG")
            address = f"{program.address}videos/street/frames?wait=60&labels=png"
            with urllib.request.urlopen(address, png.getvalue(), timeout=60) as answer:
                served = np.asarray(Image.open(io.BytesIO(answer.read())))
            own = alone.step(frame, scores=True)
            assert np.array_equal(served, steady(frame, own))
            held += np.count_nonzero(served != own.labels)
    assert held, "no label was held, and the test says nothing"


@pytest.mark.parametrize(
    "words, said",
    [
        (("--source", "none.mp4"), "none.mp4"),
        (("--source", "-"), "standard input"),
        (("--host", "0.0.0.0"), "--token-file"),
        (("--host", "203.0.113.1", "--token-file", "TOKEN"), "--host"),
        (("--stall", "0"), "--stall"),
        (("--log", "xml"), "--log"),
        (("--policy", "sometimes"), "sometimes"),
        (("--weights", "none"), "none"),
        (("--max-videos", "1", "--source", "a=0", "--source", "b=0"), "--max-videos"),
        (("--source", "a=0", "--source", "a=1"), "'a'"),
        (("--token-file", "nosuch"), "nosuch"),
        (("--token-file", "UTF-16"), "ASCII characters in 'UTF-16'"),
        (("--allow-source", ""), "--allow-source"),
        (("--allow-source", "rtsp://camera:99999/"), "camera:99999"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, said, tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TOKEN").write_text("0123456789abcdef")
    (tmp_path / "UTF-16").write_text("0123456789abcdef", "utf-16")
    result = CliRunner().invoke(app, ["serve", "--port", "0", *words])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("lowlat: serve") or said in line]
    assert said in line


def test_an_address_in_use_is_told(one_thread):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = CliRunner().invoke(app, ["serve", "--port", str(other.getsockname()[1])])
    assert result.exit_code == 2 and "--port" in result.stderr
