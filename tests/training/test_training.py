"""Training: exact resume after a kill, data in labelled frames, and every stage run end to end on a little data."""

import itertools
import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from lowlat import models
from lowlat.classes import CAMVID
from lowlat.lab.data.augment import random_view
from lowlat.lab.data.camvid import VOID, CamVid
from lowlat.lab.data.dataset import labelled_indices
from lowlat.lab.data.motion import simulate_motion
from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.pairs import Crops
from lowlat.lab.data.simulated import SimulatedPairs
from lowlat.lab.data.street import Street
from lowlat.lab.methods.weights import fingerprint
from lowlat.lab.study.settings import Settings
from lowlat.lab.study.training import Training
from lowlat.lab.train import STAGES, propagation, train
from lowlat.lab.train.finish import leave
from lowlat.lab.train.loop import Recipe, _Run, fit
from lowlat.lab.train.per_frame import check_labels
from lowlat.lab.train.provenance import videos_digest, weights_digest
from lowlat.lab.weights import save

STREET = "street:64x48,seed=1,frames=6"
SMALL = {"pixels": 64 * 48, "steps": 2, "batch": 2}  # of trainings that start from the shipped network


def test_labels_that_are_void_everywhere_teach_nothing_and_are_refused(tmp_path):
    """Their weights are no numbers, and a network that has them says nothing of any frame."""
    for index in range(3):
        for folder, pixels in (
            ("images", np.full((64, 96, 3), 9, np.uint8)),
            ("labels", np.full((64, 96), 3, np.uint8)),
        ):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "set" / folder / f"{index}.png")
    (tmp_path / "set" / "classes.csv").write_text("0,road,1,2,3\n1,car,4,5,6\n2,sky,7,8,9\n")
    with pytest.raises(
        ValueError, match="train: expected labels of 3 classes, 0 to 2, got void in every pixel; number"
    ):
        train("base", data=str(tmp_path / "set"), out=tmp_path / "out", steps=1, batch=2)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("value, said", [(11, False), (12, True), (254, True), (255, False)])
def test_label_values_that_no_class_has_are_told_but_for_those_of_void(tmp_path, capsys, value, said):
    data = folder(tmp_path / "set", Street.classes)
    label = np.full((48, 64), 3, np.uint8)
    label[7, 9] = value
    Image.fromarray(label).save(data / "labels" / "1.png")
    check_labels(open_dataset(data, "train"))
    told = f"labels of the list 'train' hold the values {value}, which no class of 0 to 10 has; such pixels count as"
    assert (told in capsys.readouterr().err) == said


@pytest.mark.parametrize("stage, network", [("finetune", "lite"), ("propagation", "resnet101")])
def test_labels_that_are_void_everywhere_are_refused_without_class_weights_too(tmp_path, monkeypatch, stage, network):
    """No loss is left where every pixel is void: every stage would end well, having learned nothing."""
    monkeypatch.setattr("lowlat.lab.train.Stages.run", lambda *_: pytest.fail("training has begun"))
    monkeypatch.setattr("lowlat.lab.train.stage_before", lambda *_: None)
    data = folder(tmp_path / "set", Street.classes)
    for path in (data / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 11, np.uint8)).save(path)
    words = "train: expected labels of 11 classes, 0 to 10, got void in every pixel"
    with pytest.raises(ValueError, match=words):
        train(stage, data=data, out=tmp_path / "out", network=network)
    with pytest.raises(ValueError, match=words):
        train("base", data=STREET, out=tmp_path / "out", validate=data)


def test_numbers_of_no_sense_are_told_of_a_finished_stage_too(tmp_path):
    save(models.load("lite"), tmp_path / "base.safetensors")
    for changes, words in (({"batch": 0}, "batch of at least 1"), ({"crop": -4}, "crop of at least 33 pixels")):
        with pytest.raises(ValueError, match=f"train: expected {words}, got .*; leave it out for the recipe's own"):
            train("base", data=STREET, out=tmp_path, **changes)


def test_weights_that_are_no_numbers_are_not_left(tmp_path):
    network = models.load("lite")
    with torch.no_grad():
        network.classifier.bias[2] = float("nan")
    with pytest.raises(RuntimeError, match="weights that are finite numbers, got others in classifier.bias; lower the"):
        leave(network, tmp_path / "base.safetensors")
    assert not list(tmp_path.iterdir())


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
    data = CamVid(camvid, "train")
    images, labels = (torch.stack([read(i) for i in range(len(data))]) for read in (data.image, data.label))
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
    data = CamVid(camvid, "train")

    def features(frames):
        empty = torch.zeros(len(frames), 1, 1, 1)
        return empty, empty, torch.zeros(len(frames), 360, 480, dtype=torch.uint8)

    pairs = SimulatedPairs(data, labelled_indices(data), features, Crops((360, 480)))
    batch = pairs.batch(6, torch.Generator().manual_seed(1), between=1)
    assert batch.between[:, 0].shape == batch.current.shape == (6, 3, 360, 480)
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
    options = {"data": camvid, "out": tmp_path, "pixels": 160 * 120, "steps": 2, "batch": 2, "learning_rate": 1e-4}
    with pytest.raises(ValueError, match=r"stage before 'selector'.*propagation\.safetensors"):
        train("selector", data=camvid, out=tmp_path / "other")
    strides, build = [], models.build
    monkeypatch.setattr(
        models, "build", lambda *a, **given: strides.append(given.get("output_stride")) or build(*a, **given)
    )
    final = train("all", clips=[], **options)
    assert [stride for stride in strides if stride] == [16, 8]
    assert final == tmp_path / "selector.safetensors"
    assert not list(tmp_path.glob("*.pairs")), "pairs are kept beyond their stage"
    about = models.load(final)
    assert (about.name, about.legend, about.pixels) == ("lite", CAMVID, 160 * 120)
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
    assert train("all", **options) == final and final.stat().st_mtime_ns == done
    # A stage in a run of its own takes the same steps as in one with the others.
    before = load_file(final)
    for path in tmp_path.glob("selector.*"):
        path.unlink()
    again = load_file(train("selector", **options))
    assert all(torch.equal(again[name], before[name]) for name in before)
    compared = train("propagation", method="unified", **options)
    assert compared == tmp_path / "propagation-unified.safetensors" and compared.is_file()


def test_start_weights_are_those_of_the_first_stage_asked_for(tmp_path, monkeypatch):
    starts = {}
    monkeypatch.setattr("lowlat.lab.train.Stages.run", lambda _, name, init, held_out: starts.update({name: init}))
    for done in range(len(STAGES)):
        starts.clear()
        train("all", data=STREET, out=tmp_path, init="lite")
        assert starts == {name: "lite" if name == "base" else None for name in STAGES[done:]}
        save(models.load("lite"), tmp_path / f"{STAGES[done]}.safetensors")
    train("selector", data=STREET, out=tmp_path / "other", init="lite")
    assert starts["selector"] == "lite"


def test_a_stopped_stage_does_not_go_on_from_other_things(tmp_path, monkeypatch, one_thread):
    step = _Run.step

    def killed(self, *args):
        if self.steps == 1:
            raise Killed
        return step(self, *args)

    options = {"out": tmp_path, **SMALL, "checkpoint_every": 1, "validate_every": 1}
    monkeypatch.setattr(_Run, "step", killed)
    with pytest.raises(Killed):
        train("finetune", data=STREET, init="lite", validate=STREET, **options)
    monkeypatch.setattr(_Run, "step", step)
    network = models.build("lite")
    save(network, tmp_path / "start.safetensors")
    for changed, name in (
        ({"data": "street:64x48,seed=2,frames=6"}, "data"),
        ({"init": tmp_path / "start.safetensors"}, "start"),
        ({"validate": None}, "validate"),
        ({"validate": "street:64x48,seed=2,frames=6"}, "validate"),
    ):
        with pytest.raises(ValueError, match=rf"expected {name}=.* as in .*finetune\.pt, got"):
            train("finetune", **{"data": STREET, "init": "lite", "validate": STREET, **changed}, **options)
    assert train("finetune", data=STREET, init="lite", validate=STREET, **options).is_file()


def test_weights_are_told_by_content(tmp_path):
    save(models.load("lite"), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((models.WEIGHTS / "lite.safetensors").read_bytes())
    assert (
        weights_digest("lite")
        == weights_digest(tmp_path / "b.safetensors")
        != weights_digest(tmp_path / "a.safetensors")
    )
    with pytest.raises(ValueError, match="expected a shipped network"):
        weights_digest("none")


def test_videos_are_told_by_content(tmp_path):
    clip, frames = tmp_path / "clip.mp4", tmp_path / "frames"
    clip.write_bytes(b"12")
    frames.mkdir()
    (frames / "0.png").write_bytes(b"1")
    seen = [videos_digest([]), videos_digest([clip]), videos_digest([frames]), videos_digest([clip, frames])]
    assert seen[0] == "none" and seen[1].startswith("clip.mp4 ")
    for content in (b"123", b"13"):
        clip.write_bytes(content)
        seen.append(videos_digest([str(clip)]))
    (frames / "0.png").write_bytes(b"2")
    seen.append(videos_digest([frames]))
    (frames / "0.png").rename(frames / "1.png")
    seen.append(videos_digest([frames]))
    assert len(set(seen)) == len(seen)
    (tmp_path / "elsewhere").mkdir()
    assert videos_digest([clip.rename(tmp_path / "elsewhere" / "clip.mp4")]) in seen


def test_videos_that_are_no_files_are_told_by_their_address():
    assert videos_digest(["rtsp://one/1"]) != videos_digest(["rtsp://other/1"])


def test_a_video_larger_than_a_piece_is_told_by_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("lowlat.lab.train.provenance.CHUNK", 4)
    digests = set()
    for content in (b"0123456789", b"0123456788", b"0123x56789"):
        (tmp_path / "clip.mp4").write_bytes(content)
        digests.add(videos_digest([tmp_path / "clip.mp4"]))
    assert len(digests) == 3


@pytest.fixture
def watched(monkeypatch):
    """Trainings of no step on no pairs: what `fit` was given for each, by name."""

    class NoPairs:
        def remove(self):
            pass

    given = {}
    monkeypatch.setattr(propagation, "fit", lambda name, *_, **options: given.update({name: options}))
    monkeypatch.setattr("lowlat.lab.train.stages.draw_bank", lambda *_, **__: NoPairs())
    return given


def test_propagation_hangs_on_its_clips(tmp_path, watched, one_thread):
    clip = tmp_path / "clip"
    clip.mkdir()
    for index in range(12):
        Image.fromarray(np.full((6, 8, 3), index, np.uint8)).save(clip / f"{index:02}.png")
    starts = []
    for clips, init in (((), "lite"), ([clip], "lite"), ((), None)):
        save(models.load("lite"), tmp_path / "finetune.safetensors")
        train("propagation", data=STREET, out=tmp_path, clips=clips, init=init)
        (tmp_path / "propagation.safetensors").unlink()
        starts.append(watched["propagation"]["starts_from"])
    assert [starts_from["clips"] for starts_from in starts] == ["none", videos_digest([clip]), "none"]
    assert [starts_from["fresh"] for starts_from in starts] == ["False", "False", "True"]
    assert starts[0]["start"] == weights_digest("lite") != starts[2]["start"]


def test_another_method_takes_start_weights_and_tensorboard_but_no_validation(
    tmp_path, watched, monkeypatch, one_thread
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=None))
    options = {"data": STREET, "out": tmp_path, "method": "unified"}
    with pytest.raises(ValueError, match="no set to validate on with method 'unified', got 'street"):
        train("propagation", validate=STREET, init="lite", **options)
    with pytest.raises(ValueError, match=r"found no finetune\.safetensors; train it first, or give"):
        train("propagation", **options)
    path = train("propagation", init="lite", tensorboard=True, **options)
    with safe_open(path, "pt") as file:
        assert file.metadata()["network"] == fingerprint(models.load("lite"))
    given = watched["propagation-unified"]
    assert given["tensorboard"] and given["starts_from"]["start"] == weights_digest("lite")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr("lowlat.lab.train.open_dataset", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train("base", data=STREET, out=tmp_path, tensorboard=True)


def folder(root, classes, *, labels=True):
    """Three noisy images of 64x48."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(classes))
    for index in range(3):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(root / "images" / f"{index}.png")
        if labels:
            label = random.integers(0, len(classes), (48, 64), np.uint8)
            Image.fromarray(label).save(root / "labels" / f"{index}.png")
    return root


def test_a_set_that_can_not_decide_is_refused_before_training(tmp_path, one_thread):
    others = {
        "no labels": (Street.classes, False, "labelled images in the list 'val' of Folder, got none among 3"),
        "two": (("a", "b"), True, r"expected the data's classes \(sky, .*bicyclist\) .* got a, b;"),
    }
    for name, (classes, labels, words) in others.items():
        held_out = folder(tmp_path / name, classes, labels=labels)
        with pytest.raises(ValueError, match=words):
            train("base", data=STREET, out=tmp_path / "out", validate=held_out, steps=1, batch=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["base", "finetune", "propagation", "selector"])
def test_images_without_labels_are_refused(tmp_path, stage, one_thread):
    data = folder(tmp_path / "data", Street.classes, labels=False)
    with pytest.raises(ValueError, match="labelled images in the list 'train' of Folder, got none among 3"):
        train(stage, data=data, out=tmp_path / "out", init="lite", steps=1, batch=2)


def test_every_stage_takes_images_of_different_sizes(tmp_path, one_thread):
    data = folder(tmp_path / "data", Street.classes)
    for kind in ("images", "labels"):
        for number, size in ((1, (200, 40)), (2, (30, 90))):
            file = sorted((data / kind).iterdir())[number]
            Image.open(file).resize(size, Image.Resampling.NEAREST).save(file)
    save(models.load("lite"), tmp_path / "out" / "base.safetensors")
    options = {**SMALL, "batch": 6, "validate": data, "validate_every": 2}
    assert models.load(train("all", data=data, out=tmp_path / "out", **options)).pixels == 64 * 48


@pytest.mark.parametrize("stage", ["base", "finetune"])
@pytest.mark.parametrize("batch, accumulate", [(1, 1), (4, 4)])
def test_one_example_a_pass_is_refused_for_the_base_network(tmp_path, stage, batch, accumulate, one_thread):
    options = {**SMALL, "batch": batch, "accumulate": accumulate}
    with pytest.raises(
        ValueError, match=rf"at least 2 examples a pass .* batch of {batch} in {accumulate} passes; raise"
    ):
        train(stage, data=STREET, out=tmp_path, init="lite", **options)


@pytest.mark.parametrize("stills", [1, 3, 4, 5, 6, 100])
def test_a_study_takes_no_more_stills_than_it_is_told(tmp_path, stills, one_thread):
    training = Training(STREET, tmp_path, Settings(stills=stills), [])

    taken = training._simulated(features=None).indices
    assert len(taken) == min(6, stills) and taken[0] == 0
    assert all(after - before in (6 // len(taken), -(-6 // len(taken))) for before, after in itertools.pairwise(taken))
