"""Weights of which not every module has been trained: `segment` and `demo` say so, or refuse them."""

import pytest

from lowlat import models
from lowlat.lab.weights import BETWEEN_KEY_FRAMES, PER_FRAME, save


@pytest.fixture
def weights(tmp_path_factory):
    """Writes `lite` with some modules marked as untrained; gives the file."""

    def write(*untrained):
        network = models.load("lite")
        network.untrained = untrained
        path = tmp_path_factory.mktemp("weights") / "net.safetensors"
        save(network, path)
        return path

    return write


def test_an_untrained_fast_track_is_told(lowlat, segmenter, weights, clip, tmp_path):
    path = weights(*BETWEEN_KEY_FRAMES)
    for words in (("segment", clip, "-o", tmp_path / "out.mp4"), ("demo", clip, "-o", tmp_path / "out")):
        code, _, err = lowlat(*words, "--weights", path)
        assert code == 0 and "predictor, adapt, fusion, selector is untrained" in err and "lowlat train distill" in err
        # The demo has no such options.
        assert ("--mode blocking" in err) == (words[0] == "segment")
    code, _, err = lowlat(
        *("segment", clip, "-o", tmp_path / "again.mp4", "--weights", path),
        *("--mode", "blocking", "--policy", "per-frame"),
    )
    assert code == 0 and "untrained" not in err


def test_start_weights_are_refused(refused, segmenter, weights, clip, tmp_path):
    path = weights(*PER_FRAME, *BETWEEN_KEY_FRAMES)
    for command in ("segment", "demo"):
        error = refused(command, clip, "-o", tmp_path / "out", "--weights", path)
        assert "classifier, head, refine is untrained" in error and "train base --init" in error
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_stage_of_training_takes_off_what_it_has_taught(tmp_path):
    network = models.load("lite")
    network.untrained = (*PER_FRAME, *BETWEEN_KEY_FRAMES)
    for stage, left in (
        ("base", BETWEEN_KEY_FRAMES),
        # A distillation says itself what it has taught: nothing where its start was the best.
        ("distill", network.untrained),
        ("", network.untrained),
    ):
        save(network, tmp_path / "net.safetensors", stage=stage)
        assert models.load(tmp_path / "net.safetensors").untrained == left


def test_options_of_a_variant_are_kept_and_unknown_ones_refused(tmp_path):
    network = models.build("resnet101", classes=3, deep_stem=[8, 16], contract=False)
    save(network, tmp_path / "net.safetensors")
    loaded = models.load(tmp_path / "net.safetensors")
    assert loaded.options == {"deep_stem": [8, 16], "contract": False} and loaded.backbone.channels["stem"] == 16
    network.options = {"colour": "blue"}
    save(network, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="(?s)resnet101 as it is built now.*colour"):
        models.load(tmp_path / "net.safetensors")
