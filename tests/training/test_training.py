"""Training: exact resume after a kill, data in labelled frames, and every stage run end to end on a little data."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lowlat import models
from lowlat.data.augment import random_view
from lowlat.data.camvid import VOID, CamVid
from lowlat.data.motion import simulate_motion
from lowlat.data.pairs import SIZE, SimulatedPairs
from lowlat.train import STAGES, base, propagation, selector, train
from lowlat.train.loop import Recipe, fit


class Killed(Exception):
    pass


def run_fit(folder, stop_at=None):
    """Fit a small network; raise at step ``stop_at`` as a kill would. Returns its final parameters."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
    calls = []

    def draw(share):
        return share.collect(lambda generator: torch.randn(1, 4, generator=generator))

    def loss(x):
        calls.append(None)
        if stop_at is not None and len(calls) > stop_at:
            raise Killed
        return (net(x) - x.sum(1, keepdim=True)).square().mean()

    recipe = Recipe(steps=20, batch=16, learning_rate=1e-2, warmup=2, checkpoint_every=5)
    fit("tiny", net, [{"params": list(net.parameters())}], draw, loss, recipe, folder)
    return net.state_dict()


def test_a_killed_run_resumes_to_the_same_losses_and_weights(tmp_path, one_thread):
    whole = run_fit(tmp_path / "whole")
    with pytest.raises(Killed):
        run_fit(tmp_path / "killed", stop_at=13)
    resumed = run_fit(tmp_path / "killed")
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name

    def losses(folder):
        rows = map(json.loads, (tmp_path / folder / "tiny.jsonl").read_text().splitlines())
        return {row["step"]: row["loss"] for row in rows}

    assert losses("whole") == losses("killed") and len(losses("whole")) == 20
    assert losses("whole")[19] < losses("whole")[0]


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    net = torch.nn.Linear(1, 1)
    recipe = Recipe(steps=2, batch=1, learning_rate=1.0)

    def draw(_):
        return torch.full((1, 1), float("nan"))

    with pytest.raises(RuntimeError, match="finite loss, got nan at step 0"):
        fit("bad", net, [{"params": list(net.parameters())}], draw, lambda x: net(x).sum(), recipe, tmp_path)


def test_views_keep_image_and_label_together(camvid):
    images, labels = CamVid(camvid, "train").load()
    frames, targets = random_view(images, labels, torch.Generator().manual_seed(0))
    assert frames.shape == images.shape and targets.shape == labels.shape
    assert targets.max() <= VOID and (targets == VOID).any()
    again, _ = random_view(images, labels, torch.Generator().manual_seed(0))
    assert torch.equal(frames, again)


def test_simulated_motion_grows_with_distance():
    def mean_length(frames):
        motion = simulate_motion(torch.full((16,), frames), 36, 48, torch.Generator().manual_seed(0))
        assert motion.shape == (16, 36, 48, 2)
        return motion.norm(dim=-1).mean()

    assert mean_length(0.0) == 0
    assert 4 < mean_length(10.0) / mean_length(2.0) < 6


def test_the_current_frame_of_a_pair_is_labelled_where_it_moved_to(camvid):
    images, labels = CamVid(camvid, "train").load()

    def features(frames):
        empty = torch.zeros(len(frames), 1, 1, 1)
        return empty, empty, torch.zeros(len(frames), *SIZE, dtype=torch.uint8)

    pairs = SimulatedPairs(images, labels, features, views=2, generator=torch.Generator().manual_seed(0))
    batch = pairs.batch(6, torch.Generator().manual_seed(1), middle=True)
    assert batch.middle.shape == batch.current.shape == (6, 3, *SIZE)
    # The red channel of every image is its label times twenty; only block edges blur, and light changes a little.
    known = batch.labels != VOID
    spread = [batch.current[:, 0][known & (batch.labels == c)].median() for c in batch.labels[known].unique()]
    assert all(a < b for a, b in zip(spread, spread[1:], strict=False)), spread


def test_a_folder_without_lists_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a list at .*train\.txt"):
        CamVid(tmp_path, "train")
    (tmp_path / "train.txt").write_text("a.jpg a.png\n")
    with pytest.raises(ValueError, match="naming files"):
        CamVid(tmp_path, "train")
    with pytest.raises(ValueError, match="stage among"):
        train("everything", data=tmp_path, out=tmp_path)


def test_every_stage_trains_and_leaves_weights(camvid, tmp_path, monkeypatch, one_thread):
    for module, name in ((base, "RECIPE"), (base, "FINETUNE"), (propagation, "RECIPE"), (selector, "RECIPE")):
        monkeypatch.setattr(module, name, Recipe(steps=2, batch=2, learning_rate=1e-4))
    monkeypatch.setattr(selector, "SIMULATED", 4)
    monkeypatch.setattr("lowlat.train.VIEWS", 1)
    monkeypatch.setattr("lowlat.train.PAIRS", 4)
    monkeypatch.setattr("lowlat.train.methods.PAIRS", 4)
    with pytest.raises(ValueError, match=r"stage before 'selector'.*propagation\.safetensors"):
        train("selector", data=camvid, out=tmp_path / "other")
    strides, build = [], base.build
    monkeypatch.setattr(
        base, "build", lambda *a, **options: strides.append(options["output_stride"]) or build(*a, **options)
    )
    final = train("all", data=camvid, out=tmp_path, clips=[])
    assert strides == [16, 8]
    assert final == tmp_path / "selector.safetensors"
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{stage}.{end}" for stage in STAGES for end in ("pt", "jsonl", "safetensors")} <= names
    torch.manual_seed(0)
    fresh, trained = models.build("lite").state_dict(), load_file(tmp_path / "base.safetensors")
    for name in ("backbone.detail.project.conv", "head.bottleneck.conv", "refine.conv"):
        assert not torch.equal(trained[f"{name}.weight"], fresh[f"{name}.weight"].half()), name
    finer = load_file(tmp_path / "finetune.safetensors")
    assert not torch.equal(finer["head.bottleneck.conv.weight"], trained["head.bottleneck.conv.weight"])
    # Class weights, taken out by the bias, are the first stage's alone.
    assert trained["classifier.bias"].abs().max() > 0.1
    assert (finer["classifier.bias"] - trained["classifier.bias"]).abs().max() < 0.01
    done = final.stat().st_mtime_ns
    assert train("all", data=camvid, out=tmp_path) == final and final.stat().st_mtime_ns == done
    # A stage in a run of its own takes the same steps as in one with the others.
    before = load_file(final)
    for path in tmp_path.glob("selector.*"):
        path.unlink()
    again = load_file(train("selector", data=camvid, out=tmp_path))
    assert all(torch.equal(again[name], before[name]) for name in before)
    compared = train("propagation", data=camvid, out=tmp_path, method="unified")
    assert compared == tmp_path / "propagation-unified.safetensors" and compared.is_file()
