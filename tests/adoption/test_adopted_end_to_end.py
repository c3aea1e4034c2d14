"""From a network of somebody's to live: adopted, distilled on a clip without labels, evaluated, measured, run."""

import json
import sys

import numpy as np
import pytest
import small
import torch
from PIL import Image
from typer.testing import CliRunner

from lowlat import models
from lowlat.cli import app
from lowlat.lab.data.recording import Recording
from lowlat.lab.train import distillation
from lowlat.lab.weights import save
from lowlat.networks.labels import full_size_labels

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (64, 96)
MYNET = """
import sys

import lowlat
import torch
from torch import nn

sys.path.append({tests!r})
import small


def network():
    torch.manual_seed(1)
    model = small.Plain(channels=12, classes=4)
    # Scores that tell apart: each of the four classes wins somewhere.
    nn.init.normal_(model.head.weight, std=2.0)
    example = torch.zeros(1, 3, 64, 96)
    return lowlat.adopt(model, split="stem", features="neck", example=example, classes=4, reduced=16, fused=16)
"""

SKIPPING = """
import sys

import lowlat
import torch
from torch import nn

sys.path.append({tests!r})
import small


def network():
    torch.manual_seed(1)
    model = small.Odd()
    model.head = nn.Conv2d(16, 11, 1)
    return lowlat.adopt(model, split="down", features="head", example=torch.zeros(1, 3, 64, 96), classes=11)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with ``mynet.py`` and a clip: a texture of smooth blobs that moves by three pixels a frame."""
    folder = tmp_path_factory.mktemp("adopted")
    (folder / "mynet.py").write_text(MYNET.format(tests=str(small.__file__).rpartition("/")[0]))
    noise = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bicubic", antialias=False)[0]
    texture = (texture.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    (folder / "clip").mkdir()
    for index in range(70):
        view = texture[index : index + SIZE[0], 3 * index : 3 * index + SIZE[1]]
        assert view.shape[:2] == SIZE
        Image.fromarray(np.ascontiguousarray(view)).save(folder / "clip" / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def distilled(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        words = ["train", "distill", "--network", "mynet:network", "--video", "clip", "--out", "runs"]
        few = ["--steps", "60", "--batch", "4", "--validate-every", "30", "--learning-rate", "0.003"]
        done = CliRunner().invoke(app, [*words, *few])
        assert done.exit_code == 0, done.output
    yield json.loads((folder / "runs" / "distill.json").read_text())
    sys.modules.pop("mynet", None)


@pytest.fixture
def here(folder, distilled, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


def test_the_fast_track_agrees_with_the_network_more_than_the_key_frames_labels_do(here, distilled):
    network = models.load("runs/distill.safetensors")
    assert network.name == "mynet:network"
    recording = Recording("clip", distillation.per_frame(network, "cpu"), frames=100, held_out=0.3)
    ours, reused = [], []
    for distance in (2, 5):
        for pair in recording.held_out(distance):
            batch = recording.batch([pair])
            expected = full_size_labels(batch.scores, SIZE)
            with torch.no_grad():
                found = full_size_labels(distillation.fast_track(network, batch, "cpu"), SIZE)
                key = full_size_labels(network.classify(batch.key_high), SIZE)
            ours.append((found == expected).float().mean().item())
            reused.append((key == expected).float().mean().item())
    assert np.mean(ours) > np.mean(reused) + 0.03
    assert distilled["agreement"] > distilled["agreement_before"]


def test_distilling_taught_the_selector_and_left_the_network_alone(here, distilled):
    taught, fresh = models.load("runs/distill.safetensors"), models.load("mynet:network")
    assert all(map(torch.equal, taught.model.parameters(), fresh.model.parameters()))
    assert taught.selector.fc.weight.any() and distilled["selector"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [
        "evaluate --data street:96x64,frames=24 --distances --json",
        "latency --size 96x64 --frames 6 --baseline-frames 3 --table-frames 3 --fps 20 --json",
        "study --quick --data street:96x64,frames=24 --seeds 0 --out study table1 table3",
        "train propagation --data street:96x64,frames=24 --steps 2 --batch 2 --out more",
        "train selector --data street:96x64,frames=24 --steps 2 --batch 2 --out more-selector",
        "export --size 96x64 -o exported --format onnx",
    ],
    ids=lambda words: " ".join(words.split()[:2]),
)
def test_every_command_takes_a_network_of_which_two_tensors_cross_the_cut(here, words):
    if not (here / "skips.safetensors").is_file():
        (here / "skipping.py").write_text(SKIPPING.format(tests=str(small.__file__).rpartition("/")[0]))
        network = models.load("skipping:network")
        # A distillation leaves nothing untrained; the study would train the rest.
        network.untrained = ()
        save(network, here / "skips.safetensors", stage="distill")
    option = {"latency": "--network", "train": "--init"}.get(words.split()[0], "--weights")
    done = CliRunner().invoke(app, [*words.split(), option, "skips.safetensors"])
    assert done.exit_code == 0, done.output


def test_segment_runs_with_the_weights(here):
    done = CliRunner().invoke(
        app, ["segment", "clip", "-o", "labels", "--weights", "runs/distill.safetensors", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert len(list((here / "labels").glob("*.png"))) == 70
    labels = np.array(Image.open(here / "labels" / "040.png"))
    assert labels.shape == SIZE and len(np.unique(labels)) > 1
