"""An RTSP camera by GStreamer that dies under a run of the real network, and is back with another size."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import av
import pytest

pytestmark = [pytest.mark.thorough, pytest.mark.serial]

PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parents[1] / "gst_camera.py"
SIZES, FRAMES = ((320, 240), (160, 120)), 60


@pytest.fixture
def gstreamer():
    """The Python that runs the server; the test fails where there is none."""
    looked_for = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", looked_for], capture_output=True).returncode:
        pytest.fail(
            f"expected GStreamer's RTSP server for {PYTHON}, found none; run `make rtsp-server` as root, or install "
            "gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-good"
        )
    return PYTHON


@pytest.fixture
def camera(gstreamer):
    """Servers on one port, each there when the one before has died; gives the port and what was started."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    started, ready, closing = [], threading.Event(), threading.Event()

    def keep():
        for width, height in SIZES:
            if closing.is_set():
                return
            words = [gstreamer, SERVER, port, width, height, FRAMES]
            process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
            started.append(process)
            assert process.stdout.readline() == "ready\n"
            ready.set()
            process.wait()

    keeper = threading.Thread(target=keep)
    keeper.start()
    assert ready.wait(30)
    yield port, started
    closing.set()
    for process in started:
        process.kill()
    keeper.join(30)


def test_a_camera_of_gstreamer_dies_and_is_back(camera, tmp_path):
    port, started = camera
    out, address = tmp_path / "out.mp4", f"rtsp://admin:s3cr%40t@127.0.0.1:{port}/live"
    words = ["segment", address, "-o", out, "--max-frames", FRAMES + 20, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lowlat", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(started) == 2 and started[0].returncode == 0
    report = json.loads(done.stdout)
    (gap,) = report["gaps"]
    assert gap["seconds"] >= 0.5 and report["error"] is None and not report["interrupted"]
    assert (report["width"], report["height"]) == SIZES[0]
    assert report["input"] == address.replace("s3cr%40t", "***") and "s3cr" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("lowlat: ")]
    assert ["lost" in line for line in lines] == [True, False] and "160x120 now, 320x240 at first" in lines[1]
    with av.open(str(out)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(times) == report["frames"]
    assert any(late - early >= gap["seconds"] - 0.2 for early, late in zip(times, times[1:], strict=False))


def test_a_wrong_password_ends_the_run_and_is_not_told(camera, tmp_path):
    address = f"rtsp://admin:wr0ng%40@127.0.0.1:{camera[0]}/live"
    words = ["--debug", "segment", address, "-o", str(tmp_path / "out.mp4"), "--json"]
    done = subprocess.run([sys.executable, "-m", "lowlat", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "401" in json.loads(done.stdout)["error"]
    assert "wr0ng" not in done.stdout + done.stderr and "admin:***@" in done.stderr
