"""Standard input and output as sources and sinks, with real pipes and the shipped network."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest

CLOSED_PIPE = 141


def start(*words, **streams):
    command = [sys.executable, "-m", "lowlat", *map(str, words)]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})


def ended(process, data=None):
    """Exit code, stdout and stderr of a command once it has ended."""
    out, err = process.communicate(data, timeout=120)
    return process.returncode, out, err.decode()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with the same clip in several containers."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("clip.mkv", "clip.mp4", "clip.ts"):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("h264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(20):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index * 10, np.uint8), "rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts"])
def test_lines_come_out_of_what_is_piped_in(clips, tmp_path, name):
    process = start("segment", "-", "-o", "-", "--format", "jsonl", stdin=subprocess.PIPE, cwd=tmp_path)
    code, out, err = ended(process, (clips / name).read_bytes())
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["index"] for line in lines] == list(range(20))
    assert [line["time_s"] for line in lines] == pytest.approx([index / 25 for index in range(20)], abs=2e-3)
    assert list(tmp_path.iterdir()) == []


def test_two_commands_are_piped_into_each_other(clips, tmp_path):
    first = start("segment", clips / "clip.mkv", "-o", "-", stderr=subprocess.DEVNULL)
    second = start("segment", "-", "-o", tmp_path / "out.mp4", "--json", stdin=first.stdout)
    first.stdout.close()
    code, out, err = ended(second)
    assert first.wait(timeout=60) == 0 and code == 0, err
    assert json.loads(out)["frames"] == 20
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 20


def test_a_file_on_standard_input_may_have_its_index_at_the_end(clips, tmp_path):
    with open(clips / "clip.mp4", "rb") as file:
        code, out, err = ended(start("segment", "-", "-o", tmp_path / "out", "--json", stdin=file))
    assert code == 0, err
    assert json.loads(out)["frames"] == 20


def test_what_can_not_be_read_from_a_pipe_says_what_can(clips, tmp_path):
    for data in (b"", b"no video" * 1000, (clips / "clip.mp4").read_bytes()):
        process = start("segment", "-", "-o", tmp_path / "out", stdin=subprocess.PIPE)
        code, out, err = ended(process, data)
        assert (code, out) == (2, b"")
        assert err.count("\n") == 1 and "MPEG-TS" in err and "standard input" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["mkv", "jsonl"])
def test_a_closed_pipe_ends_quietly(clips, form):
    process = start("segment", clips / "clip.mkv", "-o", "-", "--format", form)
    process.stdout.close()
    process.stdout = None
    code, _, err = ended(process)
    assert code == CLOSED_PIPE
    for word in ("lowlat:", "Traceback", "rror", "Broken"):
        assert word not in err


def test_a_closed_pipe_ends_other_commands_quietly_too():
    process = start("info")
    process.stdout.close()
    process.stdout = None
    code, _, err = ended(process)
    assert (code, err) == (CLOSED_PIPE, "")


def test_a_full_disk_behind_standard_output_says_so(clips):
    for form in ("mkv", "jsonl"):
        with open("/dev/full", "wb") as full:
            code, _, err = ended(start("segment", clips / "clip.mkv", "-o", "-", "--format", form, stdout=full))
        assert code == 2 and "No space left" in err.splitlines()[-1]
