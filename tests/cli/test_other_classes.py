"""Networks of other classes than the shipped one's, through the commands: names and colours come with the weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lowlat import models
from lowlat.classes import CAMVID, Classes
from lowlat.jobs.outputs import Overlay
from lowlat.lab.weights import save
from lowlat.video.sink import VideoSink
from lowlat.video.source import open_source

CITY = Classes(
    tuple(f"kind {number}" for number in range(19)), tuple((number, 255 - number, 7) for number in range(19))
)


@pytest.fixture
def clip(tmp_path):
    """Six frames of noise, which every network finds several classes in."""
    path, random = tmp_path / "clip.mkv", np.random.default_rng(0)
    with VideoSink(path, (64, 48), 25) as sink:
        for _ in range(6):
            sink.write(np.kron(random.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8)))
    return path


@pytest.fixture(params=[(11, None), (19, None), (19, CITY)], ids=["11 unnamed", "19 unnamed", "19 named"])
def weights(request, tmp_path):
    """A network with random weights; its file, and what its classes are called."""
    classes, legend = request.param
    torch.manual_seed(0)
    network = models.build("lite", classes=classes)
    network.pixels = 64 * 48
    network.legend = legend or network.legend
    torch.nn.init.normal_(network.classifier.weight)
    save(network, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors", legend or Classes.numbered(classes)


def test_label_maps_and_their_legend_are_those_of_the_weights(lowlat, clip, weights, tmp_path, one_thread):
    path, legend = weights
    code, _, err = lowlat(
        "segment", clip, "-o", tmp_path / "maps", "--weights", path, "--policy", "per-frame", "--mode", "blocking"
    )
    assert code == 0, err
    told = json.loads((tmp_path / "maps" / "classes.json").read_text())
    assert tuple(told["names"]) == legend.names and tuple(map(tuple, told["palette"])) == legend.palette
    assert not {*told["names"]} & {*CAMVID.names}
    with Image.open(tmp_path / "maps" / "000003.png") as image:
        labels = np.asarray(image)
        palette = np.reshape(image.getpalette()[: 3 * len(legend)], (-1, 3))
    assert len(np.unique(labels)) > 1 and labels.max() < len(legend)
    assert [tuple(colour) for colour in palette] == [*legend.palette]


@pytest.mark.parametrize("command", ["segment", "demo"])
def test_pictures_are_drawn_in_the_names_and_colours_of_the_weights(
    lowlat, clip, weights, tmp_path, monkeypatch, one_thread, command
):
    drawn = []

    class Watched(Overlay):
        def __init__(self, classes, palette, *arguments, **options):
            drawn.append(Classes(classes, palette))
            super().__init__(classes, palette, *arguments, **options)

    for job in ("segment", "side_by_side"):
        monkeypatch.setattr(f"lowlat.jobs.{job}.Overlay", Watched)
    path, legend = weights
    out = tmp_path / ("out.mp4" if command == "segment" else "out")
    code, _, err = lowlat(command, clip, "-o", out, "--weights", path)
    assert code == 0, err
    assert drawn == [legend]
    with open_source(out if command == "segment" else out / "overlay.mp4") as pictures:
        assert sum(1 for _ in pictures) == 6
