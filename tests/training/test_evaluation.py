"""The accuracy protocol: what is compared with what, at which age."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from lowlat import models
from lowlat.classes import CAMVID, Classes
from lowlat.lab.accuracy import DISTANCES, Timing, evaluate, evaluate_distances, evaluate_video, mean_interval
from lowlat.lab.data.camvid import CamVid
from lowlat.lab.data.street import Street
from lowlat.lab.metrics import Confusion, Scores
from lowlat.lab.recorded import LabelledVideo
from lowlat.lab.weights import save
from lowlat.runtime import KeyFrame
from lowlat.schedule import Every


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = models.build("lite").eval()
    network.pixels = None
    return network


@pytest.fixture(scope="module")
def labelled(camvid):
    return CamVid(camvid, "val")


@pytest.fixture(scope="module")
def video(network, labelled):
    return LabelledVideo(network, labelled)


def test_replay_lands_exactly_the_delay_after_the_launch(video):
    results = Timing(Every(5), delay=3).run(video, 12)
    assert [result.index for result in results if result.key] == [0, 5, 10]
    assert [result.age for result in results] == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6]
    assert mean_interval(results) == 11 / 2


def test_scores_compare_each_frame_with_its_own_truth(video, labelled):
    report = evaluate_video(video, policy="every", interval=5, delay=3)
    per_frame, reuse = Confusion(11), Confusion(11)
    for index, age in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6]):
        per_frame.add(torch.from_numpy(video.per_frame[index]), labelled.label(index))
        reuse.add(torch.from_numpy(video.per_frame[index - age]), labelled.label(index))
    assert report.per_frame.miou == pytest.approx(per_frame.miou, abs=0.01)
    assert report.reuse.miou == pytest.approx(reuse.miou, abs=0.01)
    assert report.drop == pytest.approx(report.per_frame.miou - report.scheduled.miou)
    assert report.mean_age == pytest.approx(46 / 11)


@pytest.mark.parametrize(("policy", "least", "most"), [("adaptive", 0.6, 0.9), ("accumulated", 1.2, 2.7)])
def test_the_threshold_found_gives_the_interval_asked_for(video, monkeypatch, policy, least, most):
    index = {id(low): number for number, low in enumerate(video.lows)}
    monkeypatch.setattr(video, "measure", lambda key, low, signal: 0.3 * (index[id(low)] - key.index))
    report = evaluate_video(video, policy=policy, interval=4, delay=2)
    assert least <= report.threshold < most
    assert evaluate_video(video, policy=policy, threshold=report.threshold, delay=2) == report
    assert report.mean_interval == 11 / 3  # key frames 3, 6 and 9 of frames 1 to 11: nearer to 4 than 11 / 2


def test_distance_rows_pair_propagation_with_reuse(video, labelled):
    rows = evaluate_distances(video)
    assert [row["distance"] for row in rows] == [1, 2, 3, 4, 5, 6, 8, 10]
    reuse = Confusion(11)
    for index in range(3, 12):
        reuse.add(torch.from_numpy(video.per_frame[index - 3]), labelled.label(index))
    assert rows[2]["reuse_miou"] == pytest.approx(reuse.miou, abs=0.01)


@pytest.fixture(scope="module")
def street():
    """The shipped network on a drive of 16 frames that counts as one with a cut before its seventh frame."""
    data = Street(size=(48, 64), frames=16, split="val")
    data.videos = [range(6), range(6, 16)]
    network = models.load("lite")
    network.pixels = None
    return LabelledVideo(network, data)


def test_the_networks_own_fast_track_is_what_the_network_itself_runs(street):
    report = evaluate_video(street, policy="every", interval=5, delay=3)
    own = Timing(Every(5), delay=3).run(street, len(street))
    scheduled = Scores.of(street.score((result.index, result.labels) for result in own), street.classes)
    assert report.scheduled == scheduled
    assert report.scheduled != report.reuse != report.per_frame


def test_distances_are_those_of_the_network_itself_within_scenes(street):
    rows = {row["distance"]: row for row in evaluate_distances(street)}
    assert list(rows) == [distance for distance in DISTANCES if distance < 10], "the longer scene has ten frames"
    ours, reuse = Confusion(11), Confusion(11)
    for now in (now for scene in street.scenes for now in scene if now - 4 in scene):
        key = KeyFrame(now - 4, now - 4, street.lows[now - 4], street.highs[now - 4])
        ours.add(torch.from_numpy(street.propagate(key, street.lows[now])[0]), street.truth[now])
        reuse.add(torch.from_numpy(street.per_frame[now - 4]), street.truth[now])
    assert (rows[4]["miou"], rows[4]["reuse_miou"]) == (round(ours.miou, 2), round(reuse.miou, 2))
    assert rows[4]["miou"] != rows[4]["reuse_miou"]


def test_with_no_delay_key_frames_are_waited_for(street):
    assert evaluate_video(street, policy="every", interval=5, delay=0).mean_age == pytest.approx(2, abs=0.1)


def test_the_whole_report_is_plain_values(network, camvid, tmp_path):
    save(network, tmp_path / "net.safetensors")
    report = evaluate(camvid, tmp_path / "net.safetensors", policy="every")
    assert set(report) == {"weights", "working_size", "test_per_frame", "video"}
    assert {"miou", "pixel_accuracy", "class_accuracy", "class_iou"} == set(report["test_per_frame"])
    assert {"drop", "gain", "delay", "mean_interval", "per_frame", "scheduled", "reuse"} <= set(report["video"])


def test_policies_that_make_no_sense_are_refused(video):
    with pytest.raises(ValueError, match="every or one of threshold, adaptive, accumulated, got 'sometimes'"):
        evaluate_video(video, policy="sometimes")
    with pytest.raises(ValueError, match="expected no --threshold with policy 'every', got 0.3"):
        evaluate_video(video, policy="every", threshold=0.3)


def test_an_interval_beyond_the_usual_bound_on_ages_is_come_to(network, monkeypatch):
    data = Street(size=(48, 64), frames=60, split="val")
    video = LabelledVideo(network, data)
    index = {id(low): number for number, low in enumerate(video.lows)}
    monkeypatch.setattr(video, "measure", lambda key, low, signal: 0.02 * (index[id(low)] - key.index))
    assert evaluate_video(video, interval=19, delay=2).mean_interval == 59 / 3


def test_what_has_no_labels_or_no_video_is_refused(network, tmp_path):
    save(network, tmp_path / "net.safetensors")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in "01":
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / f"{name}.png")

    def figures(**options):
        return evaluate(f"folder:{tmp_path}", tmp_path / "net.safetensors", policy="every", **options)

    with pytest.raises(ValueError, match="labelled images in the list 'test' of Folder, got none among 2"):
        figures()
    with pytest.raises(ValueError, match="expected a labelled video .* got 2 images, 0 of them labelled, 1 video;"):
        figures(images=False)
    Image.new("L", (32, 32)).save(tmp_path / "labels" / "0.png")
    # Sky alone occurs, or is predicted.
    assert {None} < set(figures()["test_per_frame"]["class_iou"].values())


def test_images_of_several_sizes_are_no_video(network, tmp_path):
    save(network, tmp_path / "net.safetensors")
    for name, size in (("0", (48, 32)), ("1", (32, 48))):
        for folder, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new(mode, size).save(tmp_path / folder / f"{name}.png")
    options = {"data": str(tmp_path), "weights": tmp_path / "net.safetensors", "policy": "every"}
    with pytest.raises(ValueError, match="frames of one size, .* in the list 'val', got 32x48 and 48x32; scale them"):
        evaluate(**options)
    assert "test_per_frame" in evaluate(**options, video=False)


def test_untrained_weights_are_refused_or_told(network, tmp_path, capsys):
    network = copy.deepcopy(network)
    network.untrained = ("fusion",)
    save(network, tmp_path / "net.safetensors")
    options = {"data": "street:64x48,frames=12", "weights": tmp_path / "net.safetensors", "policy": "every"}
    evaluate(**options, video=False)
    assert "untrained" not in capsys.readouterr().err
    evaluate(**options, images=False)
    said = capsys.readouterr().err
    assert "trained fast track for evaluate, got weights whose fusion is untrained" in said
    assert "--no-video has no need of it" in said and "--mode" not in said
    network.untrained = ("head", "classifier")
    save(network, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="evaluate: expected weights that were trained, got start weights"):
        evaluate(**options)


def test_labels_are_what_the_network_says_of_the_frame(network, video, labelled):
    with torch.no_grad():
        image = labelled.image(4)[None]
        scores = network(network.normalise(image))
        scores = torch.nn.functional.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)
    assert np.mean(video.per_frame[4] == scores.argmax(1)[0].numpy()) > 0.999


def test_the_network_is_evaluated_at_its_working_size_and_the_report_says_so(network, tmp_path):
    network = copy.deepcopy(network)
    network.pixels = 24 * 32
    save(network, tmp_path / "small.safetensors")
    network.pixels = 48 * 64
    save(network, tmp_path / "large.safetensors")

    def report(name, **options):
        return evaluate("street:64x48,frames=12", tmp_path / f"{name}.safetensors", policy="every", **options)

    small, large = report("small"), report("large")
    assert small["working_size"] == dict.fromkeys(("test", "val"), "32x24, images of 64x48")
    assert large["working_size"] == dict.fromkeys(("test", "val"), "64x48, images of 64x48")
    assert {**report("large", pixels=24 * 32), "weights": ""} == {**small, "weights": ""}
    assert {**report("small", pixels=None), "weights": ""} == {**large, "weights": ""}
    assert small["test_per_frame"] != large["test_per_frame"] and small["video"] != large["video"]


def test_any_labelled_set_is_evaluated_if_its_classes_are_the_networks(network, tmp_path):
    save(network, tmp_path / "net.safetensors")
    report = evaluate("street:64x48,frames=12", tmp_path / "net.safetensors", policy="every", distances=True)
    assert {"test_per_frame", "video", "distances"} <= set(report)
    assert set(report["test_per_frame"]["class_iou"]) == set(CAMVID.names)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "0.png")
    (tmp_path / "classes.txt").write_text("sky\nearth\n")
    with pytest.raises(ValueError, match="the 11 classes of the weights, got 2"):
        evaluate(f"folder:{tmp_path}", tmp_path / "net.safetensors")
    other = copy.deepcopy(network)
    other.legend = Classes(tuple("abcdefghijk"), CAMVID.palette)
    save(other, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match="evaluate: expected data of the classes of the weights, with 'a' as number 0, got 'sky'"
    ):
        evaluate("street:64x48,frames=12", tmp_path / "other.safetensors")
