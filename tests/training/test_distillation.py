"""Distillation: what is taken of a video, what is learned from it, and what is left alone."""

import json
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import moving
from PIL import Image

from lowlat import models
from lowlat.classes import Classes
from lowlat.jobs.demo import sample_clip
from lowlat.lab.data import recording
from lowlat.lab.data.recording import Recording, scenes
from lowlat.lab.methods import View, build
from lowlat.lab.train import distill, distillation
from lowlat.lab.train.distillation import divergence
from lowlat.lab.train.loop import Best
from lowlat.lab.weights import save


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 pictures, each of its number's grey level, with a cut at frame 20."""
    for index in range(60):
        level = index if index < 20 else 100 + index
        Image.fromarray(np.full((6, 10, 3), level, np.uint8)).save(tmp_path / f"{index:03}.png")
    return tmp_path


def look(frame):
    """Return the frame's grey level as F_l, F_h and scores."""
    level = torch.full((1, 1, 2, 3), float(frame.mean()))
    return level, level + 1, level + 2


def test_scenes_end_at_cuts_and_where_frames_are_left_out(folder, monkeypatch):
    assert [scene for _, scene in scenes(folder, 1000)] == [0] * 20 + [1] * 40
    # Two runs of fifteen frames, thirty apart; the cut is in neither.
    monkeypatch.setattr(recording, "RUN", 15)
    taken = [(int(frame.mean()), scene) for frame, scene in scenes(folder, 30)]
    assert taken == [(level, 0) for level in range(15)] + [(level, 1) for level in range(130, 145)]


def test_pairs_stay_in_one_scene_and_on_their_side(folder):
    video = Recording(folder, look, frames=1000, held_out=0.3)
    assert len(video) == 60 and video.first_held_out == 42
    for distance in (2, 10):
        trained, held_out = video.trained(distance), video.held_out(distance)
        assert len(trained) == 42 - 2 * distance and len(held_out) == 18 - distance
        assert all(now - key == distance and (key < 20) == (now < 20) and now < 42 for key, now in trained)
        assert all(now - key == distance and key >= 42 for key, now in held_out)
    distances = set()
    for number in range(60):
        batch = video.draw(torch.Generator().manual_seed(number), middle=True)
        key, middle, now = (tensor.flatten()[0].item() for tensor in (batch.key_low, batch.middle_low, batch.low))
        assert batch.key_high.flatten()[0] == key + 1 and batch.scores.flatten()[0] == now + 2
        assert middle == (key + now) // 2
        distances.add(now - key)
    assert distances == set(range(2, 11))


def test_a_video_too_short_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"more than 10 frames in the part .* held out, found none in 60 frames; take .* of 105 frames"
    ):
        Recording(folder, look, frames=1000, held_out=0.1)


@pytest.mark.parametrize("held_out, least", [(0.2, 53), (0.5, 22), (0.8, 53), (0.1, 105)])
def test_as_many_frames_are_enough_as_are_said_to_be(tmp_path, held_out, least):
    assert recording.least_frames(held_out) == least
    for index in range(least):
        Image.new("RGB", (10, 6)).save(tmp_path / f"{index:03}.png")
    recording.check_length(tmp_path, 1000, held_out)
    Recording(tmp_path, look, frames=1000, held_out=held_out)
    with pytest.raises(ValueError, match=f"at least {least} frames, got {least - 1} frames .*; give a longer one, or"):
        recording.check_length(tmp_path, least - 1, held_out)
    with pytest.raises(ValueError, match=f"{least} frames at least"):
        Recording(tmp_path, look, frames=least - 1, held_out=held_out)


def test_a_video_too_short_is_told_before_its_frames_are_looked_at(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "per_frame", lambda network, device: looked.append)
    looked = []
    with pytest.raises(ValueError, match="expected a video of at least 53 frames, got 50 frames of"):
        distill([folder], out=tmp_path / "out", frames=50)
    assert not looked and not (tmp_path / "out").exists()


def test_a_video_of_cuts_leaves_no_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "per_frame", lambda network, device: look)
    (tmp_path / "cuts").mkdir()
    for index in range(60):
        Image.new("L", (10, 6), 255 * (index % 2)).save(tmp_path / "cuts" / f"{index:02}.png")
    with pytest.raises(ValueError, match="that is trained on, found none in 60 frames; .*fewer cuts"):
        distill([tmp_path / "cuts"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_divergence_against_its_definition():
    scores, taught = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    aims, ours = F.softmax(taught / 2, 1), F.softmax(scores / 2, 1)
    expected = 4 * (aims * (aims / ours).log()).sum(1).mean()
    torch.testing.assert_close(divergence(scores, taught, "soft", 2.0), expected)
    ours = F.softmax(scores, 1)
    expected = -ours.gather(1, taught.argmax(1, keepdim=True)).log().mean()
    torch.testing.assert_close(divergence(scores, taught, "hard", 1.0), expected)
    assert divergence(taught, taught, "soft", 3.0).abs() < 1e-6


@pytest.mark.parametrize("labels, precision", [("soft", "float32"), ("hard", "bfloat16")])
def test_the_fast_track_comes_nearer_to_the_per_frame_network(tmp_path, monkeypatch, labels, precision, one_thread):
    options = {
        "pixels": 128 * 64,
        "frames": 60,
        "steps": 16,
        "batch": 4,
        "validate_every": 8,
        "learning_rate": 1e-4,
        "warmup": 2,
    }
    # What the shipped weights have left to learn in so few steps hangs on how they were trained; these have forgotten.
    network, generator = models.load("lite"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (network.adapt, network.fusion):
            for weight in (parameter for parameter in module.parameters() if parameter.dim() > 1):
                weight.add_(torch.randn(weight.shape, generator=generator) * 1.5 * weight.std())
    start = tmp_path / "start.safetensors"
    save(network, start)
    report = distill([sample_clip()], out=tmp_path, init=start, labels=labels, precision=precision, **options)
    assert report.agreement > report.agreement_before + 5
    assert report.steps > 0 and (report.frames, report.held_out) == (60, 12)
    assert json.loads((tmp_path / "distill.json").read_text()) == report.as_dict()
    # The per-frame network and the selector are those it started from.
    before, after = models.load(start).state_dict(), models.load(report.weights).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"reduction", "predictor", "adapt", "fusion"}
    assert not any("running" in name for name in changed)
    for name in ("reduction.conv.weight", "reduction.bn.weight", "reduction.bn.bias"):
        select = len(before[name]) // 3 * 2
        assert torch.equal(before[name][select:], after[name][select:]), name


def test_a_frame_half_way_is_carried_on_from_as_the_method_does(tiny_matching_network):
    network = tiny_matching_network
    lows = torch.randn(3, 1, 12, 9, 13, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        high = network.higher(lows[0])
        batch = recording.Batch(lows[0], high, lows[1], lows[2], torch.empty(0))
        method = build("adaptive-fusion", network)
        key, middle, current = (View(None, low) for low in lows)
        _, carried = method.carry(method.begin(key, high), middle)
        expected, _ = method.carry(method.begin(middle, carried), current)
        torch.testing.assert_close(distillation.fast_track(network, batch, "cpu"), expected)


def test_steps_that_do_harm_are_not_kept(tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(distillation, "MEASURED_PAIRS", 1)
    options = {"pixels": 128 * 64, "frames": 60, "steps": 1, "batch": 1, "average": 0.0}
    report = distill([sample_clip()], out=tmp_path, learning_rate=10.0, **options)
    assert report.steps == 0 and report.agreement == report.agreement_before
    before, after = models.load("lite").state_dict(), models.load(report.weights).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_distillation_does_not_go_on_from_another_one(tmp_path, monkeypatch, one_thread, capsys):
    monkeypatch.setattr(distillation, "MEASURED_PAIRS", 1)
    options = {"out": tmp_path / "out", "pixels": 64 * 48, "frames": 60, "steps": 1, "batch": 1}
    distill([moving(tmp_path / "one", 0)], **options)
    report = (tmp_path / "out" / "distill.json").read_text()
    with pytest.raises(ValueError, match=r"expected videos=one .* as in .*distill\.pt, got other "):
        distill([moving(tmp_path / "other", 1)], **options)
    # The same one has come to its end, and looks at nothing again.
    capsys.readouterr()
    monkeypatch.setattr(distillation, "per_frame", None)
    assert distill([tmp_path / "one"], **options).as_dict() == json.loads(report)
    assert "distill in" in (said := capsys.readouterr().err) and "had been trained already; to train anew" in said
    assert (tmp_path / "out" / "distill.json").read_text() == report


def test_a_distillation_hangs_on_all_it_is_given(folder, tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(distillation, "per_frame", lambda network, device: look)
    monkeypatch.setattr(distillation, "agreement", lambda *_: 0.0)
    monkeypatch.setattr(distillation, "fit", lambda *_, starts_from, **__: starts.append(starts_from) or Best(0.0, 0))
    save(models.load("lite"), tmp_path / "out" / "start.safetensors")
    for changed, name in (
        ({"videos": [folder, folder]}, "videos"),
        ({"init": tmp_path / "out" / "start.safetensors"}, "start"),
        ({"pixels": 1000}, "pixels"),
        ({"labels": "hard"}, "labels"),
        ({"temperature": 4.0}, "temperature"),
        ({"frames": 58}, "frames"),
        ({"held_out": 0.3}, "held_out"),
    ):
        starts.clear()
        for given in ({}, {}, changed):
            distill(**{"videos": [folder], "out": tmp_path / "out", "held_out": 0.25, **given})
        first, again, other = starts
        assert first == again and {key for key in first if first[key] != other[key]} == {name}


def test_a_network_of_any_classes_keeps_their_names_and_learns_its_selector(tmp_path, monkeypatch, one_thread):
    """A network from elsewhere: of four classes, its fast track and selector untrained."""
    legend = Classes(("grass", "path", "dog", "ball"), ((0, 90, 0), (90, 60, 0), (200, 0, 0), (0, 0, 255)))

    def somewhere():
        torch.manual_seed(0)
        network = models.lite(classes=4)
        network.legend, network.pixels = legend, 64 * 48
        return network

    monkeypatch.setitem(sys.modules, "somewhere", types.SimpleNamespace(network=somewhere))
    monkeypatch.setattr(distillation, "MEASURED_PAIRS", 2)
    options = {"network": "somewhere:network", "out": tmp_path / "out", "frames": 60, "steps": 4, "batch": 2}
    report = distill([moving(tmp_path / "one", 0)], **options)
    assert report.selector and report.frames == 60
    after = models.load(report.weights)
    assert (after.name, after.legend, after.pixels, after.untrained) == ("somewhere:network", legend, 64 * 48, ())
    assert after.selector.fc.weight.any(), "the selector says the same of every two frames"
    rows = (tmp_path / "out" / "distill-selector.jsonl").read_text().splitlines()
    assert len(rows) == 4
    # What comes out is a network to start from, whose selector has been trained.
    again = distill([tmp_path / "one"], **{**options, "network": None, "init": report.weights, "out": tmp_path / "two"})
    assert not again.selector and models.load(again.weights).legend == legend


def test_weights_that_are_not_there_or_another_networks_are_refused(tmp_path):
    video = moving(tmp_path / "one", 0)
    with pytest.raises(ValueError, match="expected a shipped network .* got 'resnet101'"):
        distill([video], out=tmp_path, network="resnet101")
    with pytest.raises(ValueError, match="expected weights of resnet101 in 'lite', got those of lite"):
        distill([video], out=tmp_path, network="resnet101", init="lite")
    network = models.load("lite")
    network.untrained = ("head", "classifier")
    save(network, tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match="weights that were trained, got start weights, whose classifier, head"):
        distill([video], out=tmp_path, init=tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match="working size of at least 1 pixel, got 0"):
        distill([video], out=tmp_path, pixels=0)


def test_options_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="labels among soft, hard, got 'firm'"):
        distill([tmp_path], out=tmp_path, labels="firm")
    with pytest.raises(ValueError, match="temperature above 0"):
        distill([tmp_path], out=tmp_path, temperature=0)
