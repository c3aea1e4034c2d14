"""`lowlat street`: the files are the street, whole or not at all."""

import numpy as np
import pytest
import torch

from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.street import Street
from lowlat.video.source import open_source

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_folder_holds_what_the_street_says(lowlat, tmp_path):
    out = tmp_path / "made" / "street"
    code, printed, err = lowlat("street", "--out", out, "--frames", 4, "--size", "64x48", "--seed", 7, "--split", "val")
    assert (code, printed) == (0, ""), err
    street, data = Street(seed=7, size=(48, 64), frames=4, split="val"), open_dataset(out, "val")
    assert (data.classes, data.palette, data.videos) == (street.classes, street.palette, street.videos)
    for index in range(4):
        assert torch.equal(data.image(index), street.image(index))
        assert torch.equal(data.label(index), street.label(index))
        with np.load(out / "flow" / f"{index:06}.npz") as file:
            assert np.array_equal(file["flow"], street.flow(index).numpy())
            assert np.array_equal(file["visible"], street.visible(index).numpy())


def test_a_video_shows_frames_beside_their_labels(lowlat, tmp_path):
    assert lowlat("street", "--out", tmp_path / "street.mp4", "--frames", 3, "--size", "65x48")[0] == 0
    with open_source(tmp_path / "street.mp4") as source:
        frames = list(source)
    assert len(frames) == 3 and frames[0].shape == (48, 130, 3)
    assert (
        np.abs(
            frames[0][:, :64].astype(int) - Street(size=(48, 65)).image(0)[:, :, :64].permute(1, 2, 0).numpy()
        ).mean()
        < 8
    )


def test_stopped_half_way_it_leaves_whole_files_and_no_list(tmp_path, monkeypatch, lowlat):
    image = Street.image

    def broken(street, index):
        if index == 2:
            raise RuntimeError("power cut")
        return image(street, index)

    monkeypatch.setattr(Street, "image", broken)
    assert lowlat("street", "--out", tmp_path / "s", "--frames", 4, "--size", "32x32")[0] == 1
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"s/{kind}" for kind in ("flow/000000.npz", "flow/000001.npz", "images/000000.png")] + [
        "s/images/000001.png", "s/labels/000000.png", "s/labels/000001.png"
    ]  # fmt: skip


def test_bad_input_is_refused_and_nothing_overwritten(refused, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    assert "new or empty folder" in refused("street", "--out", tmp_path)
    assert "--size as in 640x360, got 'big'" in refused("street", "--out", tmp_path / "a", "--size", "big")
    assert "at least 16 pixels, got 8x8" in refused("street", "--out", tmp_path / "a", "--size", "8x8")
    assert "train, val, test, got 'all'" in refused("street", "--out", tmp_path / "a", "--split", "all")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
