"""An adopted network goes through every stage of training and through distillation like one of the project's own."""

import pytest
import torch
from pictures import moving

from lowlat import models
from lowlat.classes import CAMVID
from lowlat.jobs.untrained import check_trained
from lowlat.lab.train import distill, distillation, train
from lowlat.lab.train.estimate import dry_run
from lowlat.lab.train.recipes import ADOPTED

STREET = "street:128x96,seed=1,frames=6"
NETWORK = """
import torch
from torch import nn
import lowlat
from lowlat.classes import CAMVID

def block(before, after, stride):
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

class Net(nn.Module):
    '''Two tensors cross the cut: the body's and the stem's.'''

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 2), block(8, 16, 2))
        self.body = nn.Sequential(block(16, 24, 2), block(24, 24, 1), block(24, 32, 1))
        self.skip, self.mix, self.head = nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 11, 1)

    def forward(self, x):
        stem = self.stem(x)
        scores = self.head(self.mix(self.body(stem) + self.skip(stem)))
        return nn.functional.interpolate(scores, x.shape[-2:], mode="bilinear", align_corners=False)

def network():
    torch.manual_seed(0)
    example = torch.zeros(1, 3, 96, 128)
    return lowlat.adopt(Net().eval(), split="body.0", features="mix", example=example, classes=CAMVID)
"""
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def adopted(tmp_path, monkeypatch):
    (tmp_path / "their_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    return "their_network:network"


@pytest.mark.thorough
def test_an_adopted_network_is_trained_like_the_others(adopted, tmp_path):
    path = train("all", data=STREET, out=tmp_path / "out", network=adopted, steps=2, batch=2, recompute=True)
    assert {file.stem for file in path.parent.glob("*.safetensors")} == set(ADOPTED.order)
    start, trained = models.build(adopted), models.load(path)
    assert (trained.name, trained.legend, trained.pixels, trained.untrained) == (adopted, CAMVID, 96 * 128, ())
    changed = {
        name.partition(".")[0]
        for name, value in trained.state_dict().items()
        if not torch.equal(value, start.state_dict()[name])
    }
    assert changed == {"model", "reduction", "predictor", "adapt", "fusion", "selector"}
    report = dry_run("all", network=adopted, data=STREET, batch=2)
    assert [report[stage]["size"] for stage in ADOPTED.order] == ["128x96"] * 3
    assert report["base"]["trained"] == sum(p.numel() for p in start.model.parameters())


def test_an_adopted_network_is_distilled_as_its_function_makes_it(adopted, tmp_path):
    report = distill(
        [moving(tmp_path / "moving", 0)], out=tmp_path / "out", network=adopted, frames=60, steps=4, batch=2
    )
    assert report.selector
    start, after = models.build(adopted), models.load(report.weights)
    assert (after.name, after.legend, after.untrained) == (adopted, CAMVID, ())
    for name, value in start.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], value), name


def test_a_distillation_that_finds_nothing_better_leaves_the_fast_track_untrained(adopted, tmp_path, monkeypatch):
    figures = iter([50.0, 40.0, 40.0])
    monkeypatch.setattr(distillation, "agreement", lambda *_: next(figures))
    options = {"frames": 60, "steps": 1, "batch": 2}
    report = distill([moving(tmp_path / "moving", 0)], out=tmp_path / "out", network=adopted, **options)
    assert (report.steps, report.agreement, report.selector) == (0, 50.0, True)
    network = models.load(report.weights)
    assert network.untrained == ("reduction", "predictor", "adapt", "fusion")
    assert "reduction, predictor, adapt, fusion is untrained" in check_trained("segment", network)


def test_an_adopted_network_of_other_classes_than_the_data_is_refused(adopted, tmp_path, monkeypatch):
    import their_network

    monkeypatch.setattr(their_network, "CAMVID", ("cat", *CAMVID.names[1:]))
    with pytest.raises(ValueError, match="expected data of the classes of their_network:network, with 'cat' as"):
        train("base", data=STREET, out=tmp_path / "out", network=adopted, steps=1, batch=2)
