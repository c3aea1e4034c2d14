"""Opening a data set by its name."""

import pytest
import torch

from lowlat.data.camvid import CLASSES, PALETTE
from lowlat.data.open import open_dataset


def test_camvid_by_kind_or_by_what_lies_there(camvid):
    data = open_dataset(f"camvid:{camvid}", "val")
    assert (data.classes, data.palette, data.split) == (CLASSES, PALETTE, "val")
    assert data.videos == [range(len(data))] and open_dataset(camvid, "train").videos == []
    images, labels = open_dataset(camvid, "val").load()
    assert torch.equal(images[3], data.image(3)) and torch.equal(labels[3], data.label(3))
    assert data.labelled(3)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kind among camvid.*got 'kitti:/x'"):
        open_dataset("kitti:/x", "val")
    with pytest.raises(ValueError, match="check the path"):
        open_dataset(tmp_path, "val")
