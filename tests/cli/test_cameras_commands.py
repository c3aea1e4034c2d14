"""`lowlat segment` on cameras that die, and what `demo` and `latency` say to them."""

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from local_cameras import SIZE, HttpCamera, Refuse, RtspCamera, Show
from PIL import Image
from timed_clips import spoil, times_of, write_clip

import lowlat.jobs.segment as segment_job
from lowlat.video.frames import Source, Timed
from lowlat.video.source import open_source

CAMERAS = pytest.mark.parametrize("camera_of", [HttpCamera, RtspCamera])
OTHER_SIZE = (96, 64)


pytestmark = pytest.mark.usefixtures("segmenter")


def told(err):
    """Return the lines on standard error that are no progress bar."""
    return [line for line in err.splitlines() if line.startswith("lowlat: ")]


@CAMERAS
def test_a_camera_that_comes_back_with_another_size_goes_on(lowlat, camera_of, tmp_path, monkeypatch):
    # The gap is longer than the silence that a source which is there may keep.
    monkeypatch.setattr(segment_job, "GRACE_S", 0.0)
    out = tmp_path / "out.mp4"
    options = ("--overload", "wait", "--max-frames", 18, "--stall", 1, "--json")
    with camera_of([Show(12), Refuse(), Show(12, OTHER_SIZE)]) as camera:
        code, printed, err = lowlat("segment", camera.at("admin:s3cret@"), "-o", out, *options)
        assert code == 0, err
        assert camera.connections == 3
    report = json.loads(printed)
    assert (report["frames"], report["interrupted"], report["error"]) == (18, False, None)
    assert (report["width"], report["height"]) == SIZE
    (gap,) = report["gaps"]
    assert 1.5 <= gap["seconds"] < 10 and gap["to"] - gap["from"] == pytest.approx(gap["seconds"], abs=0.2)
    lost, back = told(err)
    assert "is lost after" in lost and "is back after" in back and "96x64 now" in back
    assert "admin:***@" in lost and report["input"] == camera.at("admin:***@")
    assert "s3cret" not in printed + err
    times = times_of(out)
    assert len(times) == 18
    after = int(np.searchsorted(times, gap["to"] - 0.01))
    assert times[after - 1 : after + 1] == pytest.approx([gap["from"], gap["to"]], abs=0.01)


def test_a_camera_that_is_not_there_at_first_is_waited_for_if_asked(lowlat, segmenter, tmp_path):
    out = tmp_path / "out"
    options = ("--overload", "wait", "--max-frames", 6, "--reconnect", 20, "--json")
    with HttpCamera([Refuse(), Refuse(), Show(12)]) as camera:
        code, printed, err = lowlat("segment", camera.at("admin:s3cret@"), "-o", out, *options)
        assert code == 0 and camera.connections == 3, err
    assert json.loads(printed)["frames"] == 6 and json.loads(printed)["gaps"] == []
    missed, there = told(err)
    assert "admin:***@" in missed and "is not there: " in missed and missed.endswith("trying again for 20 s")
    assert "is there after" in there and "s3cret" not in printed + err


def test_a_camera_that_never_comes_ends_the_run_when_the_time_is_over(lowlat, tmp_path):
    with HttpCamera([]) as camera:
        code, printed, err = lowlat("segment", camera.address, "-o", tmp_path / "out", "--reconnect", 0.6, "--json")
    assert code == 2 and "tried for 0.6 s, as --reconnect says" in json.loads(printed)["error"]
    assert len(told(err)) == 2 and not list(tmp_path.iterdir())


def test_a_camera_that_refuses_the_password_is_not_asked_again(lowlat, tmp_path):
    with HttpCamera([Refuse("401 Unauthorized"), Show(12)]) as camera:
        code, _, err = lowlat("segment", camera.at("admin:s3cret@"), "-o", tmp_path / "out", "--reconnect", 20)
        assert camera.connections == 1
    assert code == 2 and len(told(err)) == 1 and "s3cret" not in err


@pytest.mark.parametrize("why", ["401 Unauthorized", "403 Forbidden"])
def test_a_camera_that_refuses_the_password_after_a_loss_ends_the_run(lowlat, tmp_path, why):
    with HttpCamera([Show(12), Refuse(why), Show(12)]) as camera:
        words = (camera.at("admin:s3cret@"), "-o", tmp_path / "out", "--reconnect", 3, "--json")
        code, printed, err = lowlat("segment", *words)
        assert camera.connections == 2
    report = json.loads(printed)
    assert code == 2 and f"it refuses now (Server returned {why}" in report["error"]
    assert "check the name and password" in report["error"] and told(err)[-1] == f"lowlat: {report['error']}"
    assert report["frames"] > 0 and [gap["to"] for gap in report["gaps"]] == [None]
    assert "s3cret" not in printed + err


def test_a_camera_whose_path_is_gone_for_a_while_is_waited_for(lowlat, tmp_path):
    with HttpCamera([Show(6), Refuse("404 Not Found"), Show(6)]) as camera:
        words = (camera.address, "-o", tmp_path / "out", "--overload", "wait", "--max-frames", 12)
        assert lowlat("segment", *words)[0] == 0 and camera.connections == 3


def test_a_video_that_changes_its_size_goes_on(lowlat, segmenter, tmp_path):
    """Browsers record such videos. The network starts up anew at each size, and no frame is left out."""
    path, out = tmp_path / "in.ts", tmp_path / "out"
    parts = [
        write_clip(tmp_path / f"{n}.ts", size=size, options={"bf": "0"}) for n, size in enumerate((SIZE, OTHER_SIZE))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    code, printed, err = lowlat("segment", path, "-o", out, "--json")
    assert code == 0 and json.loads(printed)["frames"] == 40, err
    sizes = [Image.open(path).size for path in sorted(out.glob("*.png"))]
    assert sizes == [SIZE] * 20 + [OTHER_SIZE] * 20
    assert lowlat("segment", path, "-o", tmp_path / "out.mp4")[0] == 0
    assert times_of(tmp_path / "out.mp4") == pytest.approx([index / 25 for index in range(40)], abs=1e-4)


def test_label_maps_have_the_size_of_their_frames(lowlat, tmp_path):
    out = tmp_path / "out"
    with HttpCamera([Show(6), Show(6, OTHER_SIZE)]) as camera:
        code, *_ = lowlat("segment", camera.address, "-o", out, "--overload", "wait", "--max-frames", 12)
    assert code == 0
    sizes = [Image.open(path).size for path in sorted(out.glob("*.png"))]
    assert sizes == [SIZE] * 6 + [OTHER_SIZE] * 6


@CAMERAS
def test_a_camera_that_dies_ends_the_run_where_nobody_waits_for_it(lowlat, camera_of, tmp_path):
    out = tmp_path / "out.mp4"
    with camera_of([Show(12), Show(12)]) as camera:
        code, printed, err = lowlat(
            "segment", camera.at("admin:s3cret@"), "-o", out, "--overload", "wait", "--reconnect", 0, "--json"
        )
        assert camera.connections == 1
    report = json.loads(printed)
    assert code == 2 and len(told(err)) == 1
    assert (report["interrupted"], report["gaps"]) == (False, [])
    assert f"lowlat: {report['error']}" == told(err)[0]
    assert "which was lost" in report["error"] and f"{report['frames']} frames" in report["error"]
    assert "--reconnect" in report["error"] and "s3cret" not in printed + err
    assert len(times_of(out)) == report["frames"] >= 11


def test_a_camera_that_stays_away_ends_the_run_with_its_gap_in_the_report(lowlat, tmp_path):
    with HttpCamera([Show(12)]) as camera:
        code, printed, err = lowlat("segment", camera.address, "-o", tmp_path / "out", "--reconnect", 0.6, "--json")
    report = json.loads(printed)
    assert code == 2 and "within 0.6 s" in report["error"]
    (gap,) = report["gaps"]
    assert gap["to"] is None and 0.6 <= gap["seconds"] < 10
    assert len(told(err)) == 2


class Hanging(Source):
    """A camera whose driver hangs in a read."""

    name, fps, size, frames, live, missing = "camera 0", 25, SIZE, None, True, []

    def timed(self):
        yield Timed(np.zeros((*SIZE[::-1], 3), np.uint8), 0.0, 0)
        threading.Event().wait(20)


def test_a_stall_names_the_option_and_the_source(lowlat, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_job, "open_source", lambda *_, **__: Hanging())
    monkeypatch.setattr(segment_job, "GRACE_S", 0.1)
    code, printed, err = lowlat("segment", "0", "-o", tmp_path / "out", "--stall", 0.2, "--json")
    assert code == 2
    (line,) = told(err)
    assert "'camera 0' within 0.3 s" in line and "--stall" in line and "stall_s" not in line
    report = json.loads(printed)
    assert report["frames"] == 1 and f"lowlat: {report['error']}" == line


@pytest.mark.parametrize(
    "options", [("--reconnect", "-1"), ("--stall", "0"), ("--stall", "inf"), ("--reconnect", "nan")]
)
def test_patience_that_is_none_is_refused_by_its_option(refused, clip, tmp_path, options):
    assert options[0] in refused("segment", clip, "-o", tmp_path / "out.mp4", *options)


def broken_by(error):
    def raising(*_, **__):
        raise error

    return raising


@pytest.mark.parametrize(
    "break_it, words, code, interrupted",
    [
        (("none.mp4",), "none.mp4", 2, False),
        (("rtsp://admin:s3cret@127.0.0.1:9/live",), "admin:***@", 2, False),
        (("clip.mp4", "--size", "640"), "640x360", 2, False),
        (("clip.mp4", "--policy", "sometimes"), "sometimes", 2, False),
        (RuntimeError("no memory"), "no memory", 1, False),
        (KeyboardInterrupt(), None, 130, True),
    ],
)
def test_json_prints_its_object_whatever_breaks(
    lowlat, clip, tmp_path, monkeypatch, break_it, words, code, interrupted
):
    monkeypatch.chdir(tmp_path)
    if not isinstance(break_it, tuple):
        monkeypatch.setattr(segment_job, "open_source", broken_by(break_it))
        break_it = ("clip.mp4",)
    got, printed, err = lowlat("segment", *break_it, "-o", "out.mp4", "--json")
    report = json.loads(printed)
    assert (got, report["interrupted"], report["frames"]) == (code, interrupted, 0)
    assert report["error"] is None if words is None else words in report["error"]
    assert report["input"].endswith(break_it[0].rpartition("@")[2]) and report["output"] == "out.mp4"
    assert "s3cret" not in printed + err


def test_a_fault_on_the_way_is_in_the_report_with_what_was_done(lowlat, segmenter, clip, tmp_path):
    segmenter.broken[9] = RuntimeError("no memory")
    code, printed, _ = lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--json")
    report = json.loads(printed)
    assert (code, report["frames"], report["error"], report["interrupted"]) == (1, 9, "no memory", False)
    assert (report["width"], report["height"]) == SIZE


@pytest.mark.parametrize("command", ["demo", "latency"])
@pytest.mark.parametrize("address", ["rtsp://admin:s3cret@127.0.0.1:9/live", "srt://127.0.0.1:9?passphrase=s3cret"])
def test_what_reads_its_input_twice_refuses_a_live_address_without_asking_it(refused, tmp_path, command, address):
    error = refused(command, address, "-o", tmp_path / "out")
    assert address.replace("s3cret", "***") in error
    assert "which is live" in error and "use lowlat segment" in error and "not found" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "latency"])
def test_what_reads_its_input_twice_refuses_an_http_camera(refused, tmp_path, command):
    with HttpCamera([Show(30)] * 2) as camera:
        error = refused(command, camera.at("admin:s3cret@"), "-o", tmp_path / "out")
    assert camera.at("admin:***@") in error and "which is live" in error


@pytest.mark.parametrize("command", ["demo", "latency"])
def test_an_address_where_nothing_is_keeps_its_slashes(refused, tmp_path, command):
    assert "'http://127.0.0.1:9/clip.mp4'" in refused(command, "http://127.0.0.1:9/clip.mp4", "-o", tmp_path / "out")


def test_the_demo_takes_a_recording_at_an_address(lowlat, clip, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/clip.mp4?password=s3cret"
        code, printed, err = lowlat("demo", address, "-o", tmp_path / "out", "--fps", 1000, "--json")
        server.shutdown()
    assert code == 0, err
    assert json.loads(printed)["video"] == "clip.mp4?password=***"
    with open_source(tmp_path / "out" / "overlay.mp4") as source:
        assert len(list(source)) == 20


def test_an_interrupted_wait_for_a_camera_is_reported(tmp_path):
    """Ctrl-C while the camera is away ends the run at once, with the gap so far."""
    with HttpCamera([Show(12)]) as camera:
        words = ["segment", camera.address, "-o", str(tmp_path / "out.mp4"), "--overload", "wait", "--json"]
        run = subprocess.Popen(
            [sys.executable, "-m", "lowlat", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines = iter(run.stderr.readline, "")
        assert any("is lost after" in line for line in lines)
        run.send_signal(signal.SIGINT)
        printed, err = run.communicate(timeout=60)
    report = json.loads(printed)
    assert run.returncode == 130 and err.endswith("lowlat: interrupted\n")
    assert (report["interrupted"], report["error"]) == (True, None)
    (gap,) = report["gaps"]
    assert gap["to"] is None and gap["seconds"] > 0
    assert len(times_of(tmp_path / "out.mp4")) == report["frames"] > 0


@pytest.mark.parametrize(
    "words, said",
    [
        (("segment",), "INPUT"),
        (("segment", "clip.mp4", "-o", "out.mp4", "--nope"), "--nope"),
        (("segment", "clip.mp4", "-o", "out.mp4", "--fps", "fast"), "--fps"),
        (("demo", "clip.mp4", "--max-frames", "few"), "--max-frames"),
        (("demo", "none.mp4"), "none.mp4"),
        (("latency", "none.mp4"), "none.mp4"),
        (("simulate", "--frames", "-1"), "--frames"),
        (("evaluate", "--data", "none"), "none"),
    ],
)
def test_json_prints_an_object_whatever_is_wrong_with_the_words(lowlat, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, printed, err = lowlat(*words, "--json")
    report = json.loads(printed)
    assert code == 2 and report["interrupted"] is False and said in report["error"] and said in err


@pytest.mark.parametrize("output", [("-o", "-"), ("--output", "-"), ("--output=-",)])
def test_standard_output_that_is_for_results_holds_no_object_of_errors(lowlat, output):
    code, printed, err = lowlat("segment", "clip.mp4", *output, "--nope", "--json")
    assert (code, printed) == (2, "") and json.loads(err[: err.index("}") + 1])["interrupted"] is False


def test_the_demo_prints_its_object_of_a_damaged_clip(lowlat, segmenter, tmp_path):
    path = spoil(write_clip(tmp_path / "clip.mp4"), [10, 11])
    code, printed, err = lowlat("demo", path, "-o", tmp_path / "out", "--fps", 1000, "--json")
    report = json.loads(printed)
    assert code == 2 and report["missing"] == [10, 11] and report["low_latency"]["frames"] == 18
    assert told(err)[-1] == f"lowlat: {report['error']}"
    assert json.loads((tmp_path / "out" / "report.json").read_text())["error"] == report["error"]


def test_sound_that_turns_out_not_to_fit_is_told_in_words(lowlat, segmenter, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", sound="libopus", seconds=0.8)
    code, _, err = lowlat("segment", path, "-o", tmp_path / "out.mov")
    assert code == 0 and len(times_of(tmp_path / "out.mov")) == 20
    assert ["the sound is left out" in line for line in told(err)] == [True]


@pytest.mark.parametrize(
    "words",
    [
        ("segment", "rtsp://a:s3cret@cam/live", "rtsp://a:s3cret@cam/live", "-o", "out.mp4"),
        ("segment", "none.mp4", "-o", "rtsp://a:s3cret@cam/live"),
        ("batch", "rtsp://a:s3cret@cam/live", "-o", "out"),
        ("--debug", "segment", "none.mp4", "-o", "rtsp://a:s3cret@cam/live"),
    ],
)
def test_passwords_in_words_that_make_no_sense_are_masked_too(lowlat, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, printed, err = lowlat(*words, "--json")
    assert code and "a:***@cam" in err + printed and "s3cret" not in printed + err
