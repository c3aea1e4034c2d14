"""What measurements and trainings depend on: of weights given, the per-frame network; the fast track where it runs."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_study import SMALL, STREET

from lowlat import models
from lowlat.lab.data.street import Street
from lowlat.lab.methods.method import reset_parameters
from lowlat.lab.study.grounds import Ground, Which
from lowlat.lab.study.measure import OURS, frames_unit, images_unit, method_unit, schedule_unit
from lowlat.lab.study.paper import table4_units
from lowlat.lab.study.parts import Parts
from lowlat.lab.study.timing import modules_unit
from lowlat.lab.weights import FAST_TRACK, SELECTOR
from lowlat.lab.weights import save as save_weights


@pytest.fixture
def altered(tiny_weights, tmp_path):
    """Makes a file of the same network after ``change(network)``."""

    def save(change):
        network = models.load(tiny_weights)
        with torch.no_grad():
            change(network)
        save_weights(network, tmp_path / "altered.safetensors", stage="selector")
        return tmp_path / "altered.safetensors"

    return save


def ground(weights, out):
    return Ground(STREET, str(weights), Parts(out), SMALL)


def another_fast_track(network):
    for name in ("reduction", "predictor", "selector"):
        reset_parameters(getattr(network, name))
    network.predictor.to_logits.bias += 1


def another_classifier(network):
    network.classifier.bias += 1


def digests(ground):
    return {
        "frames": frames_unit(ground).digest,
        "method": method_unit(ground, "unified", 0).digest,
        "trained": schedule_unit(ground, Which(0), "every", 2, 0).digest,
        "given": schedule_unit(ground, ground.given, "every", 2, 0).digest,
    }


def test_weights_are_given_whole_where_no_module_is_untrained_whatever_was_trained_last(tiny_weights, tmp_path):
    assert ground("lite", tmp_path).complete
    network = models.load(tiny_weights)
    for last, untrained in (("propagation", ()), ("selector", FAST_TRACK), ("finetune", SELECTOR)):
        network.untrained = untrained
        save_weights(network, tmp_path / "weights.safetensors", stage=last)
        assert ground(tmp_path / "weights.safetensors", tmp_path).complete == (not untrained)


def changed(tiny_weights, altered, tmp_path):
    before, after = (digests(ground(weights, tmp_path)) for weights in (tiny_weights, altered))
    return {name for name in before if before[name] != after[name]}


def test_another_fast_track_is_measured_where_it_runs_alone(tiny_weights, altered, tmp_path):
    assert changed(tiny_weights, altered(another_fast_track), tmp_path) == {"given"}


def test_another_per_frame_network_is_measured_anew(tiny_weights, altered, tmp_path):
    assert changed(tiny_weights, altered(another_classifier), tmp_path) == {"frames", "method", "trained", "given"}


def test_what_is_trained_knows_nothing_of_the_fast_track_given(tiny_weights, altered, tmp_path):
    files = {"a": tiny_weights, "b": altered(another_fast_track)}
    a, b = (ground(file, tmp_path / name).network(Which(0)).state_dict() for name, file in files.items())
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_fast_track_given_makes_no_second_training(tiny_weights, altered, tmp_path, monkeypatch):
    first = ground(tiny_weights, tmp_path)
    path = first.training.method(tiny_weights, OURS, 0, None)
    monkeypatch.setattr("lowlat.lab.study.training.train_methods", lambda *_, **__: pytest.fail("trained again"))
    second = altered(another_fast_track)
    assert ground(second, tmp_path).training.method(second, OURS, 0, None) == path


def test_weights_of_other_classes_are_refused(tmp_path):
    network = models.build("lite", classes=3)
    save_weights(network, tmp_path / "three.safetensors")
    with pytest.raises(
        ValueError, match="study: expected data of the 3 classes of the weights, got 11; give such data, or weights"
    ):
        ground(tmp_path / "three.safetensors", tmp_path)


def test_a_set_without_a_labelled_video_is_refused(tiny_weights, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "0.png")
    with pytest.raises(ValueError, match="study: expected a labelled video .* got 1 image, 0 of them labelled"):
        Ground(f"folder:{tmp_path}", str(tiny_weights), Parts(tmp_path / "parts"), SMALL)


def test_labels_that_are_kept_back_leave_a_row_out(tiny_weights, tmp_path, monkeypatch):
    some = ground(tiny_weights, tmp_path)
    assert [unit.kind for unit in table4_units(some)] == ["images", "frames"]
    monkeypatch.setattr(Street, "labelled", lambda self, index: self.split != "test")
    assert [unit.kind for unit in table4_units(ground(tiny_weights, tmp_path))] == ["frames"]


def test_modules_of_another_network_are_timed_anew(tiny_weights, tmp_path, monkeypatch):
    some = ground(tiny_weights, tmp_path)
    before = modules_unit(some).digest
    some.architecture = "resnet101"
    assert modules_unit(some).digest != before


def test_measurements_are_found_wherever_the_data_lies(tiny_weights, camvid, tmp_path):
    moved, changed = (shutil.copytree(camvid, tmp_path / name) for name in ("moved", "changed"))
    labels = np.array(Image.open(changed / "train1.png"))
    Image.fromarray(labels[:, ::-1].copy()).save(changed / "train1.png")

    def names(folder):
        some = Ground(f"camvid:{folder}", str(tiny_weights), Parts(tmp_path), SMALL)
        trained = method_unit(some, "unified", 0).digest, some.training._seed_folder(tiny_weights, 0, None)
        return frames_unit(some).digest, images_unit(some).digest, *trained

    assert names(camvid) == names(moved)
    assert [a == b for a, b in zip(names(camvid), names(changed), strict=True)] == [True, True, False, False]
