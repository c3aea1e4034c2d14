"""`lowlat train`: what the command refuses, and the estimate that it prints."""

import json

import pytest

from lowlat import models

STREET = "street:64x48,seed=1,frames=6"


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ("all", "--network", "vgg", "--data", STREET),
            "train: expected a network among lite, resnet101, or an adopted",
        ),
        (
            ("al", "--data", STREET),
            "train: expected a stage among base, finetune, propagation, selector, all or distill, got 'al'; name one",
        ),
        (("distil", "--video", "a.mp4"), "train: expected a stage among base, finetune, propagation, selector, all or"),
        (("base", "--data", "camvd:there"), "data: expected a kind among camvid, cityscapes, folder, street before"),
        (("base",), "train: expected --data, got none"),
        (("base", "--data", STREET, "--size", "64"), "train: expected --size as in 640x360, got '64'"),
        (("base", "--data", STREET, "--size", "64x48", "--pixels", 9), "train: expected --pixels or --size, got"),
        (("base", "--data", STREET, "--pixels", -1), "train: expected --pixels of at least 1"),
        (("base", "--data", STREET, "--crop", 7), "expected crop of at least 33 pixels, got 7"),
        (("base", "--data", STREET, "--pairs", 7), "expected --pairs with propagation, selector or all"),
        (("base", "--data", STREET, "--frames", 7), "expected --labels, --temperature and --frames with distill only"),
        (("base", "--data", STREET, "--video", "a.mp4"), "expected --video with distill only, got it with 'base'"),
        (("base", "--data", STREET, "--network", "no.module:here"), "expected the module 'no.module'"),
        (("distill", "--video", "a.mp4", "--recompute"), "expected --recompute with base, finetune or all"),
        (("distill", "--video", "a.mp4", "--bank", "there"), "expected --video alone with distill, got --bank"),
        (("base", "--data", STREET, "--seed", -1), "expected seed of at least 0"),
        (("base", "--dry-run", "--pairs", 7), "expected --pairs with propagation, selector or all"),
        (("propagation", "--dry-run", "--method", "unified"), "expected --dry-run with the network's own method, got"),
        (("distill", "--video", "a.mp4", "--network", "resnet101"), "expected a shipped network"),
        (
            ("distill", "--video", "a.mp4", "--network", "resnet101", "--init", "lite"),
            "expected weights of resnet101 in",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_code_2(lowlat, tmp_path, words, said):
    code, printed, error = lowlat("train", *words, "--out", tmp_path / "out")
    assert code == 2 and printed == ""
    assert error.startswith("lowlat: ") and error.count("\n") == 1 and said in error
    assert not (tmp_path / "out").exists()


def test_the_file_that_is_left_is_printed_as_json_too(lowlat, tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(models.find("lite").read_bytes())
    words = ("train", "base", "--data", STREET, "--out", tmp_path)
    assert lowlat(*words)[:2] == (0, f"{path}\n")
    assert json.loads(lowlat(*words, "--json")[1]) == {"weights": str(path)}


def test_a_dry_run_prints_what_a_step_takes_and_trains_nothing(lowlat, tmp_path):
    options = ("train", "base", "--dry-run", "--data", STREET, "--batch", 2, "--out", tmp_path / "out")
    code, printed, _ = lowlat(*options, "--json")
    report = json.loads(printed)
    assert code == 0 and not (tmp_path / "out").exists()
    assert (report["network"], report["frame"], report["base"]["size"]) == ("lite", "64x48", "64x48")
    assert {"parameters", "flops", "bytes", "activations", "h200_s"} <= set(report["base"])
    code, printed, _ = lowlat(*options, "--size", "128x96")
    assert code == 0 and "128x96" in printed and "h200_s" in printed
