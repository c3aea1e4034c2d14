"""`lowlat export`: what another program runs gives the labels that the engine gives."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lowlat
import lowlat.jobs.export as job
from lowlat import models
from lowlat.cli import app
from lowlat.jobs.export import export
from lowlat.lab.replay import ReplayWorker
from lowlat.runtime import Engine
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Every, Schedule

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "onnx_live.py"
EVERY, DELAY = 5, 3
ALONE = """
import runpy, sys
for name in ("torch", "lowlat", "svconv"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def moving(count, height, width):
    """Blurred noise that slides by two pixels a frame."""
    random = np.random.default_rng(0)
    noise = torch.from_numpy(random.uniform(0, 255, (1, 3, height, width + 2 * count)).astype(np.float32))
    noise = torch.nn.functional.avg_pool2d(noise, 9, stride=1, padding=4, count_include_pad=False)
    noise = ((noise - noise.mean()) * 5 + 128).clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(np.stack([noise[:, 2 * index : 2 * index + width] for index in range(count)]))


def engines_labels(network, frames, delay=DELAY, **schedule):
    stages = NetworkStages(network, pixels=None)
    with Engine(Schedule(Every(EVERY), **schedule), stages, ReplayWorker(stages, delay)) as engine:
        return np.stack([engine.step(frame).labels for frame in frames])


def run_example(folder, frames, tmp_path, delay=DELAY):
    """Return the labels that the example makes where neither torch nor this project can be imported."""
    np.save(tmp_path / "frames.npy", frames)
    words = [EXAMPLE, folder, tmp_path / "frames.npy", tmp_path / "labels.npy", EVERY, delay]
    subprocess.run([sys.executable, "-c", ALONE, *map(str, words)], check=True)
    return np.load(tmp_path / "labels.npy")


@torch.no_grad()
def evened(network, frame):
    """Return a copy of a random network whose classes have the same mean score, so that all of them are seen."""
    network = copy.deepcopy(network)
    low = network.lower(network.normalise(torch.from_numpy(frame).permute(2, 0, 1)[None]))
    high, reduced = network.higher(low), network.reduce(low)
    network.classifier.bias -= network.classify(high).mean((0, 2, 3))
    if not network.correct:
        network.fusion.classifier.bias -= network.fuse(high, reduced).scores.mean((0, 2, 3))
    return network


@pytest.mark.parametrize("kind", ["tiny_matching_network", pytest.param("tiny_network", marks=pytest.mark.thorough)])
def test_onnxruntime_alone_gives_the_engines_labels(request, tmp_path, kind):
    frames = moving(18, 48, 64)
    network = evened(request.getfixturevalue(kind), frames[0])
    report = export(network, tmp_path / "out", size=(64, 48), form="onnx")
    assert sorted(report.files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    want = engines_labels(network, frames)
    assert len(np.unique(want)) > 2 and (want[1] != want[-1]).mean() > 0.05
    got = run_example(tmp_path / "out", frames, tmp_path)
    assert got.dtype == np.uint8 and (got == want).mean() > 0.999
    # A pass so late that its features are carried along bases before it lands.
    late = engines_labels(network, frames, delay=8)
    assert (late != engines_labels(network, frames, delay=8, steps=0)).mean() > 0.002
    assert (run_example(tmp_path / "out", frames, tmp_path, delay=8) == late).mean() > 0.999


class Skipping(torch.nn.Module):
    """A small network whose decoder reads a skip: two tensors cross a cut after ``deep``."""

    def __init__(self):
        super().__init__()
        self.early = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = torch.nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.deeper = torch.nn.Conv2d(12, 12, 3, padding=1)
        self.decode = torch.nn.Conv2d(20, 16, 3, padding=1)
        self.classify = torch.nn.Conv2d(16, 5, 1)

    def forward(self, x):
        early = self.early(x).relu()
        deep = self.deeper(self.deep(early).relu()).relu()
        deep = torch.nn.functional.interpolate(deep, early.shape[-2:], mode="bilinear")
        return self.classify(self.decode(torch.cat((early, deep), 1)).relu())


@pytest.mark.thorough
def test_an_adopted_network_exports_all_that_crosses_its_cut(tmp_path):
    torch.manual_seed(0)
    example = torch.zeros(1, 3, 48, 64)
    adopted = lowlat.adopt(Skipping(), split="deep", features="decode", example=example, classes=5).eval()
    frames = moving(12, 48, 64)
    export(adopted, tmp_path / "out", size=(64, 48), form="onnx")
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    given = [tensor["name"] for tensor in about["stages"][1]["inputs"]]
    assert given == ["low", "low1"], given
    assert (run_example(tmp_path / "out", frames, tmp_path) == engines_labels(adopted, frames)).mean() > 0.999


def test_the_manifest_says_how_the_stages_fit_together(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "write", lambda form, stage, path: path.touch() or 0.0)
    report = export(tiny_network, tmp_path / "out", size=(62, 50), form="onnx")
    assert report.size == [64, 48]
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    stages = {stage["name"]: stage for stage in about["stages"]}
    assert list(stages) == ["lower", "higher", "classify", "anchor", "propagate", "select"]
    assert stages["lower"]["inputs"] == [{"name": "frame", "dtype": "uint8", "shape": [1, 48, 64, 3]}]
    outputs = {tensor["name"]: tensor for stage in stages.values() for tensor in stage["outputs"]}
    assert outputs["labels"] == {"name": "labels", "dtype": "uint8", "shape": [1, 48, 64]}
    assert outputs["carried"]["shape"] == outputs["high"]["shape"] == [1, 16, 6, 8]
    given = [tensor["name"] for tensor in stages["propagate"]["inputs"]]
    assert given == ["anchor", "high", "predict", "adapt"] and set(given) <= outputs.keys()
    assert about["normalisation"]["mean"] == [0.5, 0.5, 0.5] and about["classes"]["names"][1] == "class 1"
    assert about["frame"]["width"] == 64 and about["schedule"]["threshold"] == 0.2
    assert (about["schedule"]["rebase"], about["schedule"]["steps"]) == (3, 4)


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["onnx", "aoti"])
def test_lite_gives_the_engines_labels(tmp_path, form):
    network, frames = models.load("lite"), moving(8, 96, 128)
    assert export(network, tmp_path / "out", size=(128, 96), form=form).notice == ""
    want = engines_labels(network, frames)
    if form == "onnx":
        got = run_example(tmp_path / "out", frames, tmp_path)
    else:
        spec = importlib.util.spec_from_file_location("onnx_live", EXAMPLE)
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        got = np.stack(list(example.label(Packages(tmp_path / "out"), frames, EVERY, DELAY)))
    assert (got == want).mean() > 0.999


@pytest.mark.parametrize("words", [(), ("out", "frames.npy"), ("out", "frames.npy", "labels.npy", "five")])
def test_the_example_says_how_it_is_called(words):
    done = subprocess.run([sys.executable, EXAMPLE, *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("usage: python onnx_live.py EXPORTED frames.npy labels.npy")


def test_the_example_says_what_frames_were_exported(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"stages": [], "frame": {"height": 24, "width": 32}}))
    for frames in (np.zeros((2, 32, 24, 3), np.uint8), np.zeros((2, 24, 32, 3)), np.zeros((0, 24, 32, 3), np.uint8)):
        np.save(tmp_path / "frames.npy", frames)
        words = [sys.executable, EXAMPLE, tmp_path, tmp_path / "frames.npy", tmp_path / "labels.npy"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1 and "expected frames of uint8 (n, 24, 32, 3), as exported, got" in done.stderr
        assert not (tmp_path / "labels.npy").exists()


class Packages:
    """The example's `Stages` on AOTInductor packages."""

    def __init__(self, folder):
        self.about = json.loads((folder / "manifest.json").read_text())
        for stage in self.about["stages"]:
            run = torch._inductor.aoti_load_package(str(folder / stage["files"]["aoti"]))
            setattr(self, stage["name"], lambda *arrays, run=run: self.run(run, arrays))

    def run(self, run, arrays):
        return [tensor.numpy() for tensor in run(*map(torch.from_numpy, arrays))]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `lowlat export` with files that are touched only; gives exit code, stdout and stderr."""
    monkeypatch.setattr(job, "write", lambda form, stage, path: path.touch() or 0.0)

    def run(*words):
        result = CliRunner().invoke(app, ["export", *map(str, words)])
        return result.exit_code, result.stdout, result.stderr

    return run


def test_a_folder_that_an_export_made_is_replaced(command, tmp_path):
    out = tmp_path / "out"
    for form, files in (("onnx", 7), ("aoti", 7), ("both", 13)):
        code, told, _ = command("--size", "64x48", "-o", out, "--format", form, "--json")
        assert code == 0 and len(json.loads(told)["files"]) == files
        assert len(list(out.iterdir())) == files and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_what_was_there(command, tmp_path, monkeypatch):
    assert command("--size", "64x48", "-o", tmp_path / "out", "--format", "onnx")[0] == 0
    before = sorted(path.name for path in (tmp_path / "out").iterdir())

    def fail(form, stage, path):
        path.touch()
        if stage.name == "propagate":
            raise RuntimeError("export: the compiler broke")
        return 0.0

    monkeypatch.setattr(job, "write", fail)
    code, told, error = command("--size", "64x48", "-o", tmp_path / "out", "--format", "aoti")
    assert (code, told) == (1, "") and "the compiler broke" in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "words, told",
    [
        (("--format", "tflite"), "onnx, aoti or both"),
        (("--size", "640"), "640x360"),
        (("--weights", "none.safetensors"), "none.safetensors"),
        (("-o", "."), "a folder to make, got '.', which you are in; name one within it"),
        (("-o", "taken"), "a new folder"),
        (("-o", "file"), "a new folder"),
        (("-o", "file/out"), "a folder to write to"),
    ],
)
def test_bad_input_is_refused(command, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").touch()
    options = {"--size": "64x48", "-o": "out", "--format": "onnx", **dict([words])}
    code, out, error = command(*(word for pair in options.items() for word in pair))
    assert (code, out) == (2, "") and told in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_missing_package_says_what_to_install(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, error = command("--size", "64x48", "-o", tmp_path / "out", "--format", "onnx")
    assert code == 1 and "pip install" in error and "onnxscript" in error
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_is_told(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = command("--size", "64x48", "-o", tmp_path / "out", "--format", "aoti")
    assert code == 1 and "g++" in error and "--format onnx" in error


def test_a_file_with_other_results_is_refused(tiny_network, tmp_path, monkeypatch):
    from lowlat.jobs.export import formats

    monkeypatch.setattr(formats, "_onnx", lambda stage, path: [value + 1 for value in stage.outputs.values()])
    with pytest.raises(RuntimeError, match="onnx lower to give the network's results"):
        export(tiny_network, tmp_path / "out", size=(64, 48), form="onnx")
    assert not list(tmp_path.iterdir())
