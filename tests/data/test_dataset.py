"""Opening a data set by its name, and telling it from others."""

import shutil

import pytest
import torch

from lowlat.classes import CAMVID
from lowlat.lab.data.dataset import LabelledImages, digest, labelled_indices, spread
from lowlat.lab.data.open import open_dataset


class Given(LabelledImages):
    """A labelled set of given images and labels, some of them None."""

    split, palette, videos = "train", ((0, 0, 0),) * 2, []

    def __init__(self, images, labels, classes=("a", "b")):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self):
        return len(self.images)

    def image(self, index):
        return self.images[index]

    def label(self, index):
        return self.labels[index]

    def labelled(self, index):
        return self.labels[index] is not None


def test_camvid_by_kind_or_by_what_lies_there(camvid):
    data = open_dataset(f"camvid:{camvid}", "val")
    assert (data.classes, data.palette, data.split) == (CAMVID.names, CAMVID.palette, "val")
    assert data.videos == [range(len(data))] and open_dataset(camvid, "train").videos == []
    assert data.image(3).shape == (3, 360, 480) and data.label(3).shape == (360, 480)
    assert data.labelled(3)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kind among camvid.*got 'kitti:/x'"):
        open_dataset("kitti:/x", "val")
    with pytest.raises(ValueError, match="check the path"):
        open_dataset(tmp_path, "val")


def test_indices_of_what_is_labelled():
    image, label = torch.zeros(3, 2, 4, dtype=torch.uint8), torch.zeros(2, 4, dtype=torch.uint8)
    assert labelled_indices(Given([image] * 4, [None, label, None, label])) == [1, 3]
    with pytest.raises(ValueError, match="expected labelled images in the list 'train' of Given, got none among 2"):
        labelled_indices(Given([image] * 2, [None] * 2))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 100])
def test_a_spread_takes_as_many_as_it_may(length):
    items = list(range(length))
    chosen = spread(items, 8)
    assert chosen == items if length <= 8 else len(chosen) == 8
    gaps = {after - before for before, after in zip(chosen, [*chosen[1:], length], strict=True)}
    assert max(gaps) - min(gaps) <= 1


def test_a_digest_follows_the_content_and_not_the_place(camvid, tmp_path):
    shutil.copytree(camvid, tmp_path / "moved")
    assert digest(open_dataset(tmp_path / "moved", "train")) == digest(open_dataset(camvid, "train"))
    generator = torch.Generator().manual_seed(0)
    images = list(torch.randint(0, 256, (3, 3, 2, 4), generator=generator, dtype=torch.uint8))
    labels = list(torch.randint(0, 2, (3, 2, 4), generator=generator, dtype=torch.uint8))
    sets = [
        Given(images, labels),
        Given(images, labels, ("a", "c")),
        Given([*images, images[0]], [*labels, None]),
        Given(images, [*labels[:2], None]),
        Given([images[0], images[1], 255 - images[2]], labels),
        Given(images, [labels[0], 1 - labels[1], labels[2]]),
        Given([image.mT for image in images], [label.mT for label in labels]),
    ]
    assert len({digest(data) for data in sets}) == len(sets)
