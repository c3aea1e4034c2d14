"""Everything that takes a device keeps its tensors there together, and gives back labels and files on the host."""

import copy
from dataclasses import replace

import pytest
import torch
from elsewhere import DEVICE, elsewhere

from lowlat import models
from lowlat.lab.accuracy import Timing, by_distance, evaluate, run_method
from lowlat.lab.data.street import Street
from lowlat.lab.methods import METHODS, build
from lowlat.lab.recorded import LabelledVideo
from lowlat.lab.study.grounds import Ground
from lowlat.lab.study.parts import Parts
from lowlat.lab.study.settings import Settings
from lowlat.lab.study.training import Training
from lowlat.lab.train.recipes import ADOPTED
from lowlat.lab.weights import save
from lowlat.schedule import Every

STREET = "street:64x48,seed=1,frames=8"
SMALL = Settings(seeds=1, steps=2, pairs=4, stills=2, batch=2, frames=8, images=2, distances=(1, 3))


@pytest.fixture
def tiny_weights(tiny_network, tmp_path, monkeypatch):
    """A file of weights of the tiny network, known to `models` for the while."""
    monkeypatch.setitem(models.MODELS, "tiny", lambda **_: copy.deepcopy(tiny_network))
    save(models.build("tiny"), tmp_path / "tiny.safetensors", stage="selector")
    return tmp_path / "tiny.safetensors"


def test_the_pretended_device_notices_what_was_not_moved():
    layer = torch.nn.Linear(3, 2)
    with elsewhere():
        moved = copy.deepcopy(layer).to(DEVICE)
        x = torch.randn(4, 3)
        assert torch.equal(moved(x.to(DEVICE)).cpu(), layer(x))
        with pytest.raises(RuntimeError, match="on one device"):
            moved(x)
        with pytest.raises((RuntimeError, TypeError), match="numpy"):
            x.to(DEVICE).numpy()


def test_a_network_is_evaluated_on_any_device(tiny_weights, monkeypatch):
    monkeypatch.setattr("lowlat.lab.accuracy.find_device", lambda who, device: torch.device(device))
    here = evaluate(STREET, tiny_weights, distances=True, policy="every", interval=3)
    with elsewhere():
        there = evaluate(STREET, tiny_weights, distances=True, policy="every", interval=3, device=DEVICE)
    assert there == here


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_the_videos_device(name, tiny_network):
    data = Street(size=(48, 64), seed=1, frames=8, split="val")

    def counts(device):
        video = LabelledVideo(tiny_network, data, device=device)
        method = build(name, copy.deepcopy(tiny_network), flow=data.flow)
        run = run_method(method, video, Timing(Every(3), delay=2))
        return [run.confusion.counts, by_distance(method, video, (2,))[2].counts]

    here = counts("cpu")
    with elsewhere():
        there = counts(DEVICE)
    assert all(map(torch.equal, here, there))


def test_a_network_is_trained_on_any_device(tiny_weights, tmp_path, monkeypatch):
    # The pretended device is known to the thread that enters it: batches are drawn there.
    for stage in ("propagation", "selector"):
        monkeypatch.setitem(ADOPTED.recipes, stage, replace(ADOPTED.recipes[stage], workers=0))
    with elsewhere():
        path = Training(STREET, tmp_path, SMALL, [], DEVICE).network(tiny_weights, 0)
    trained, start = models.load(path), models.load(tiny_weights)
    for name in ("predictor", "selector"):
        before, after = (next(getattr(network, name).parameters()) for network in (start, trained))
        assert torch.isfinite(after).all() and not torch.equal(before, after)


def test_what_was_made_on_another_kind_of_device_is_made_again(tiny_weights, tmp_path):
    def keys(device):
        ground = Ground(STREET, str(tiny_weights), Parts(tmp_path), SMALL, device=device)
        return ground.inputs(), ground.training._seed_folder(tiny_weights, 0, None)

    assert all(a != b for a, b in zip(keys("cpu"), keys("cuda"), strict=True))
    assert keys("cuda") == keys("cuda:1")
