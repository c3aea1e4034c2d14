"""Standard input and output as sources and sinks, through real pipes."""

import json
import os
import select
import signal
import subprocess
import sys
import threading

import av
import numpy as np
import pytest

from lowlat.cli import app
from lowlat.video import pipe

CLOSED_PIPE = 141


def make_clip(path, *, size=(64, 48), noisy=False):
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for index in range(20):
            picture = np.full((*size[::-1], 3), index * 10 + 5, np.uint8)
            if noisy:
                picture = noise.integers(0, 256, picture.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def feed(file, data):
    with file:
        try:
            file.write(data)
        except BrokenPipeError:
            pass


def drain(file, lines, into):
    with file:
        into.append(
            b"".join(line for line in file) if lines is None else b"".join(file.readline() for _ in range(lines))
        )


@pytest.fixture
def piped(monkeypatch, capfd):
    """Runs the command line between two pipes; gives exit code, what came out, and stderr.

    Args:
        data: what goes in; None leaves standard input as it is.
        lines: how many lines are read before the reader goes; None for all.
    """

    def run(*words, data=None, lines=None):
        threads, taken = [], []
        with monkeypatch.context() as patched:
            if data is not None:
                source, into = os.pipe()
                patched.setattr(sys, "stdin", open(source))
                threads.append(threading.Thread(target=feed, args=(open(into, "wb"), data)))
            outlet, sink = os.pipe()
            patched.setattr(sys, "stdout", open(sink, "w"))
            threads.append(threading.Thread(target=drain, args=(open(outlet, "rb"), lines, taken)))
            for thread in threads:
                thread.start()
            with pytest.raises(SystemExit) as ended:
                app([str(word) for word in words])
            sys.stdout.close()
            if data is not None:
                sys.stdin.close()
        for thread in threads:
            thread.join()
        return ended.value.code, taken[0], capfd.readouterr().err

    return run


@pytest.mark.parametrize("name", ["piped.mkv", "piped.ts"])
def test_lines_come_out_of_what_is_piped_in(piped, segmenter, tmp_path, name):
    data = make_clip(tmp_path / name).read_bytes()
    code, out, err = piped("segment", "-", "-o", "-", "--format", "jsonl", data=data)
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["index"] for line in lines] == list(range(20))
    assert [line["time_s"] for line in lines] == pytest.approx([index / 25 for index in range(20)], abs=2e-3)
    assert [line["runs"][0][0] for line in lines] == [index % 11 for index in range(20)]


def test_a_pipe_is_no_camera_and_loses_no_frame_under_load(piped, segmenter, tmp_path):
    data = make_clip(tmp_path / "piped.ts").read_bytes()
    code, _, err = piped("segment", "-", "-o", tmp_path / "out", "--overload", "wait", data=data)
    assert code == 0, err
    assert len(list((tmp_path / "out").glob("*.png"))) == 20


def test_what_can_not_be_read_from_a_pipe_says_what_can(piped, segmenter, tmp_path):
    index_at_the_end = make_clip(tmp_path / "large.mp4", size=(256, 256), noisy=True)
    for data in (b"", b"no video" * 1000, index_at_the_end.read_bytes()):
        code, out, err = piped("segment", "-", "-o", tmp_path / "out", data=data)
        assert (code, out) == (2, b"")
        assert "standard input" in err.splitlines()[-1] and "MPEG-TS" in err.splitlines()[-1]
        assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["large.mp4"]


def test_a_file_on_standard_input_may_have_its_index_at_the_end(piped, segmenter, tmp_path, monkeypatch):
    with open(make_clip(tmp_path / "large.mp4", size=(256, 256), noisy=True)) as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(SystemExit) as ended:
            app(["segment", "-", "-o", str(tmp_path / "out")])
    assert ended.value.code == 0 and len(list((tmp_path / "out").glob("*.png"))) == 20


@pytest.mark.parametrize("form", ["mkv", "jsonl"])
@pytest.mark.parametrize("lines", [0, 1])
def test_a_closed_pipe_ends_quietly(piped, segmenter, tmp_path, form, lines):
    clip = make_clip(tmp_path / "clip.mkv")
    code, _, err = piped("segment", clip, "-o", "-", "--format", form, lines=lines)
    assert code == CLOSED_PIPE
    for word in ("lowlat:", "Traceback", "rror", "Broken", "ignored"):
        assert word not in err


def test_a_closed_pipe_ends_other_commands_quietly_too(piped):
    code, _, err = piped("simulate", "--frames", 2000, lines=0)
    assert (code, err) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("form", ["mkv", "jsonl"])
def test_a_full_disk_behind_standard_output_says_so(segmenter, tmp_path, monkeypatch, capfd, form):
    clip = make_clip(tmp_path / "clip.mkv")
    with open("/dev/full", "w") as full, monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(sys, "stdout", full)
        app(["segment", str(clip), "-o", "-", "--format", form])
    assert ended.value.code == 2 and "No space left" in capfd.readouterr().err.splitlines()[-1]


def test_two_commands_are_piped_into_each_other(tmp_path):
    command = [sys.executable, "-m", "lowlat", "segment"]
    clip, out = make_clip(tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    first = subprocess.Popen(
        [*command, clip, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    second = subprocess.run([*command, "-", "-o", out, "--json"], stdin=first.stdout, capture_output=True)
    first.stdout.close()
    assert first.wait() == 0 and second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["frames"] == 20
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


def test_a_program_whose_reader_goes_ends_with_nothing_but_its_status(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    command = [sys.executable, "-m", "lowlat", "segment", clip, "-o", "-", "--format", "jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait() == CLOSED_PIPE
    assert "lowlat:" not in err and "rror" not in err


def test_ctrl_c_ends_a_run_whose_pipe_stands_still(segmenter, tmp_path, monkeypatch, capfd):
    data = make_clip(tmp_path / "piped.ts").read_bytes()
    source, into = os.pipe()
    os.write(into, data)

    class Standing(pipe._Input):
        def read(self, size=-1):
            if self.interrupt is None and not select.select([self], [], [], 0)[0]:
                # The read below waits then.
                interrupt = signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
                threading.Timer(0.3, *interrupt).start()
            return super().read(size)

    monkeypatch.setattr(pipe, "_Input", Standing)
    # Ends the run with another status where Ctrl-C doesn't.
    giving_up = threading.Timer(20, os.close, (into,))
    giving_up.start()
    with open(source) as stdin, monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(sys, "stdin", stdin)
        app(["segment", "-", "-o", str(tmp_path / "out")])
    assert ended.value.code == 130 and "Traceback" not in capfd.readouterr().err
    giving_up.cancel()
    os.close(into)


@pytest.mark.parametrize(
    "closed, words, code, said",
    [
        (">&-", "simulate --frames 20", 0, ""),
        (">&-", "segment - -o -", 2, "standard input"),
        ("2>&-", "simulate --frames -1", 2, ""),
        ("<&- >&- 2>&-", "simulate --frames 20", 0, ""),
    ],
)
def test_standard_streams_may_be_closed(tmp_path, closed, words, code, said):
    """What is said on a standard error that is none must not get among the results."""
    run = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m lowlat {words} {closed}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert (run.returncode, run.stdout) == (code, "")
    assert said in run.stderr and "Traceback" not in run.stderr and not list(tmp_path.iterdir())


def test_no_file_gets_the_number_of_a_stream_that_is_closed(tmp_path):
    """What libraries print by that number would be in it."""
    program = (
        "import os; from lowlat.__main__ import open_standard_streams as o; o(); print(os.open('file', 65), end='')"
    )
    run = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "{program}" <&- 2>&-'], capture_output=True, text=True, cwd=tmp_path
    )
    assert int(run.stdout) > 2


def test_a_pipe_that_was_told_not_to_wait_is_waited_for(monkeypatch):
    source, into = os.pipe()
    os.set_blocking(source, False)
    wait = select.select

    def waiting(*streams):
        os.write(into, b"late")
        return wait(*streams)

    monkeypatch.setattr(select, "select", waiting)
    with pipe._Input(source, "rb") as stream:
        assert stream.read(10) == b"late"
    os.close(into)
