"""The paper's network from the first step to a segmented video, by the commands, at its own width and a small size.

One step a stage, two crops of 97 pixels: about half a minute, most of it for writing half a gigabyte of states.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lowlat import models
from lowlat.classes import CAMVID
from lowlat.cli import app
from lowlat.lab.train.recipes import RESNET101

STREET = "street:128x104,seed=2,frames=16"


@pytest.fixture
def lowlat():
    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.thorough
def test_the_papers_network_is_trained_evaluated_and_run(lowlat, tmp_path, one_thread):
    out = tmp_path / "out"
    options = ("--crop", 97, "--steps", 1, "--batch", 2, "--precision", "float32", "--workers", 0)
    code, printed, said = lowlat("train", "all", "--network", "resnet101", "--data", STREET, "--out", out, *options)
    assert code == 0, said
    weights = out / "selector.safetensors"
    assert printed.strip() == str(weights) and "starts from random weights" in said
    assert {path.stem for path in out.glob("*.safetensors")} == set(RESNET101.order)
    network = models.load(weights)
    assert (network.name, network.legend, network.pixels, network.untrained) == ("resnet101", CAMVID, 128 * 104, ())
    crop = torch.load(out / "base.pt", mmap=True)["fixed"]
    assert (crop["crop"], crop["optimizer"], crop["decay"]) == (97, "sgd", "poly")

    code, printed, said = lowlat("evaluate", "--weights", weights, "--data", STREET, "--no-video", "--json")
    assert code == 0, said
    scores = json.loads(printed)["test_per_frame"]
    assert set(scores["class_iou"]) == set(CAMVID.names) and 0 <= scores["miou"] <= 100

    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(5):
        picture = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(picture).save(frames / f"{index}.png")
    code, printed, said = lowlat("segment", frames, "-o", tmp_path / "labels", "--weights", weights)
    assert code == 0, said
    assert len(list((tmp_path / "labels").glob("*.png"))) == 5
    names = (tmp_path / "labels" / "classes.json").read_text()
    assert all(name in names for name in CAMVID.names)
    shutil.rmtree(out)
