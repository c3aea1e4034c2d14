"""`--device` means the same for every command: where the network runs, with the same labels, files and figures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from places import GPUS, at
from typer.testing import CliRunner

from lowlat.cli import app
from lowlat.video.sink import VideoSink

SIZE = (96, 64)
COMMANDS = {
    "demo": ("demo", "{clip}", "-o", "{out}"),
    "segment": ("segment", "{clip}", "-o", "{out}"),
    "evaluate": ("evaluate", "--data", "street:64x48,frames=4"),
    "latency": ("latency", "--size", "96x64", "--frames", "2", "-o", "{out}"),
    "study": ("study", "--quick", "-o", "{out}"),
    "train": ("train", "base", "--data", "street:64x48,frames=4", "-o", "{out}"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (SIZE[1], 2 * SIZE[0], 3), np.uint8)
    with VideoSink(path, SIZE, 25) as sink:
        for index in range(8):
            sink.write(np.ascontiguousarray(picture[:, 4 * index : 4 * index + SIZE[0]]))
    return path


def lowlat(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.stdout


def label_maps(folder):
    return np.array([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])


@pytest.mark.sample(2)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("place", GPUS)
def test_segment_writes_the_same_labels(clip, place, tmp_path):
    words = ("segment", clip, "--mode", "blocking", "--policy", "every", "--interval", 3, "--json")
    lowlat(*words, "-o", tmp_path / "cpu")
    with at(place):
        report = json.loads(lowlat(*words, "-o", tmp_path / "gpu", "--device", "cuda"))
    assert report["frames"] == 8 and report["failures"] == 0
    expected, found = label_maps(tmp_path / "cpu"), label_maps(tmp_path / "gpu")
    # A CPU resizes bytes, a GPU floats: they differ by rounding.
    assert found.shape == (8, SIZE[1], SIZE[0]) and np.mean(found == expected) > 0.98


@pytest.mark.sample(2)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("place", GPUS)
def test_the_demo_leaves_its_files_and_names_the_device(clip, place, tmp_path):
    with at(place):
        report = json.loads(lowlat("demo", clip, "-o", tmp_path, "--fps", 200, "--device", "cuda", "--json"))
        name = torch.cuda.get_device_name()
    assert report["device"] == name and report["low_latency"]["frames"] == 8
    assert {path.name for path in tmp_path.iterdir()} == {
        "overlay.mp4",
        "overlay.png",
        "latency.png",
        "trace.json",
        "report.html",
        "report.json",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_gpu_every_command_says_so_in_one_line_and_writes_nothing(clip, command, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [word.format(clip=clip, out=tmp_path / "out") for word in COMMANDS[command]]
    done = CliRunner().invoke(app, [*words, "--device", "cuda"])
    assert done.exit_code == 1, done.output
    (line,) = done.stderr.strip().splitlines()
    assert (
        line.startswith(f"lowlat: {command}: ")
        and "expected an NVIDIA GPU for device='cuda'" in line
        and "use device='cpu'" in line
    )
    assert not (tmp_path / "out").exists()
