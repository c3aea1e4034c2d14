"""The variants of `resnet101` that converted checkpoints have, on each device: a GPU's labels are the CPU's."""

import numpy as np
import pytest
import torch
from places import GPUS, at

from lowlat import models
from lowlat.lab.convert.start import start_at_the_classifier
from lowlat.networks.resnet import ResNet101
from lowlat.schedule import Every
from lowlat.segmenter import VideoSegmenter

SEMSEG = {"deep_stem": [8, 16], "contract": False, "align_corners": True}
V1D = {"deep_stem": [8, 8], "pool": True}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.sample(4)
@pytest.mark.parametrize("place", GPUS)
@pytest.mark.parametrize("options", [SEMSEG, V1D], ids=["semseg", "v1d"])
def test_a_variant_runs_alike_on_each_device(monkeypatch, place, options):
    # The network keeps its four layers, with fewer blocks in each.
    monkeypatch.setattr(ResNet101, "blocks", (1, 1, 3, 1))
    torch.manual_seed(0)
    network = models.build("resnet101", classes=5, **options).eval()
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), np.uint8)
    with torch.no_grad():
        # Every class is ahead somewhere, between key frames too.
        images = torch.from_numpy(frames).permute(0, 3, 1, 2)
        network.classifier.bias -= network(network.normalise(images)).mean((0, 2, 3))
    start_at_the_classifier(network)
    labels = {}
    for where in ("cpu", place):
        with at(where) as device:
            with VideoSegmenter(network, device=device, policy=Every(2), mode="blocking", pixels=None) as segmenter:
                labels[where] = np.stack([segmenter.step(frame).labels for frame in frames])
    assert labels["cpu"].shape == (5, 40, 56) and len(np.unique(labels["cpu"])) == 5
    assert (labels[place] == labels["cpu"]).mean() > 0.999
