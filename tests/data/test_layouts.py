"""Data sets as folders, each on a tiny tree with the real names."""

import numpy as np
import pytest
import torch
from PIL import Image

from lowlat.classes import CAMVID
from lowlat.lab.data import camvid, cityscapes
from lowlat.lab.data.camvid_full import COLOURS, CamVidFull
from lowlat.lab.data.cityscapes import Cityscapes
from lowlat.lab.data.dataset import labelled_indices
from lowlat.lab.data.folder import Folder
from lowlat.lab.data.open import open_dataset

HEIGHT, WIDTH = 4, 6


def save(path, value, shape=(HEIGHT, WIDTH, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(np.asarray(value, np.uint8), shape)).save(path)


class TestCamVid:
    NAME = "0001TP_006690.png"

    def test_lists_as_segnet_published_them(self, tmp_path):
        save(tmp_path / "train" / self.NAME, (10, 20, 30))
        save(tmp_path / "trainannot" / self.NAME, 3, (HEIGHT, WIDTH))
        line = f"/SegNet/CamVid/train/{self.NAME} /SegNet/CamVid/trainannot/{self.NAME}"
        (tmp_path / "train.txt").write_text(f"{line}\n")
        data = open_dataset(tmp_path, "train")
        assert data.image(0)[:, 0, 0].tolist() == [10, 20, 30] and data.label(0)[0, 0] == 3
        # An absolute path that is there is meant.
        save(tmp_path / "elsewhere" / "train" / self.NAME, (1, 2, 3))
        elsewhere = tmp_path / "elsewhere" / "train" / self.NAME
        (tmp_path / "train.txt").write_text(f"{elsewhere} trainannot/{self.NAME}\n")
        assert open_dataset(tmp_path, "train").image(0)[:, 0, 0].tolist() == [1, 2, 3]


class TestCamVidFull:
    NAMES = {
        "train": ("0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_00390", "0016E5_07920", "0016E5_08190"),
        "val": ("0016E5_07959", "0016E5_07961", "0016E5_08159"),
        "test": ("0001TP_008550", "0001TP_010380", "Seq05VD_f00000", "Seq05VD_f05100"),
    }

    @pytest.fixture
    def root(self, tmp_path):
        for names in self.NAMES.values():
            for name in names:
                save(tmp_path / "701_StillsRaw_full" / f"{name}.png", (10, 20, 30))
                save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", (128, 128, 128))
        return tmp_path

    @pytest.mark.parametrize("split", NAMES)
    def test_the_segnet_split_by_name(self, root, split):
        data = open_dataset(root, split)
        assert isinstance(data, CamVidFull)
        assert sorted(path.stem for path in data.images) == sorted(self.NAMES[split])
        assert data.videos == ([range(3)] if split == "val" else [])
        assert data.image(0)[:, 0, 0].tolist() == [10, 20, 30]

    def test_colours_become_classes(self, root):
        colours = [colour for merged in COLOURS.values() for colour in merged.values()]
        assert len(set(colours)) == 31 and (0, 0, 0) not in colours
        row = [*colours, (0, 0, 0), (1, 2, 3)]
        save(root / "701_StillsRaw_full" / "0016E5_07959.png", 0, (2, len(row), 3))
        save(root / "LabeledApproved_full" / "0016E5_07959_L.png", np.array(row)[None], (2, len(row), 3))
        label = open_dataset(f"camvid:{root}", "val").label(0)
        names = [name for name, merged in COLOURS.items() for _ in merged]
        assert label.dtype == torch.uint8 and label.shape == (2, len(row))
        assert label[1].tolist() == [*(CAMVID.names.index(name) for name in names), camvid.VOID, camvid.VOID]

    @pytest.mark.parametrize(
        "colour, of",
        [
            ((128, 64, 128), "road"),
            ((128, 0, 192), "road"),  # lane markings
            ((0, 0, 192), "pavement"),
            ((64, 192, 128), "pavement"),  # parking block
            ((64, 0, 128), "car"),
            ((64, 128, 192), "car"),  # SUV
            ((0, 64, 64), "sign"),  # traffic light
            ((192, 128, 64), "pedestrian"),  # child
            ((192, 192, 0), "tree"),  # vegetation
            ((192, 0, 192), "bicyclist"),  # motor scooter
        ],
    )
    def test_what_is_merged_into_what(self, colour, of):
        assert colour in COLOURS[of].values()

    def test_a_missing_label_and_a_foreign_image(self, root):
        (root / "LabeledApproved_full" / "0016E5_07961_L.png").unlink()
        data = CamVidFull(root, "val")
        assert [data.labelled(i) for i in range(3)] == [True, False, True] and data.label(1) is None
        save(root / "701_StillsRaw_full" / "holiday.png", 0)
        with pytest.raises(ValueError, match="got 'holiday'"):
            CamVidFull(root, "val")
        with pytest.raises(ValueError, match="LabeledApproved_full"):
            CamVidFull(root / "701_StillsRaw_full", "val")


class TestCityscapes:
    def tree(self, root, sequences=True, kind="labelIds"):
        """Two snippets that follow each other under one sequence number, as in bochum, and one of another city."""
        folder = "leftImg8bit_sequence" if sequences else "leftImg8bit"
        for city, sequence, first in (("bochum", 0, 10), ("bochum", 0, 40), ("ulm", 3, 0)):
            for frame in range(first, first + 30) if sequences else [first + 19]:
                name = f"{city}_{sequence:06}_{frame:06}"
                save(root / folder / "val" / city / f"{name}_leftImg8bit.png", frame)
            labels = np.array([[7, 8, 33, 0, 4, 24]] * HEIGHT)
            path = root / "gtFine" / "val" / city / f"{city}_{sequence:06}_{first + 19:06}_gtFine_{kind}.png"
            save(path, labels if kind == "labelIds" else cityscapes._TRAIN_IDS[labels], (HEIGHT, WIDTH))

    def test_snippets_of_thirty_with_the_twentieth_labelled(self, tmp_path):
        self.tree(tmp_path)
        data = open_dataset(tmp_path, "val")
        assert data.videos == [range(0, 30), range(30, 60), range(60, 90)]
        assert [i for i in range(90) if data.labelled(i)] == [19, 49, 79]
        assert data.names[19] == "bochum_000000_000029" and data.names[79] == "ulm_000003_000019"
        assert data.image(19)[0, 0, 0] == 29 and data.label(18) is None
        assert len(data.classes) == len(data.palette) == len(cityscapes.LABEL_IDS) == 19
        assert data.image(19).shape == (3, HEIGHT, WIDTH) and data.label(19).shape == (HEIGHT, WIDTH)

    def test_the_label_id_of_every_class(self):
        # fmt: off
        published = {
            "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
            "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
            "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
        }
        # fmt: on
        assert dict(zip(cityscapes.CLASSES, cityscapes.LABEL_IDS, strict=True)) == published

    @pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
    def test_label_ids_become_classes(self, tmp_path, kind):
        self.tree(tmp_path, kind=kind)
        assert open_dataset(f"cityscapes:{tmp_path}", "val").label(19)[2].tolist() == [0, 1, 18, 255, 255, 11]

    def test_images_without_sequences(self, tmp_path):
        self.tree(tmp_path, sequences=False)
        data = open_dataset(tmp_path, "val")
        assert data.videos == [] and len(data) == 3 and all(map(data.labelled, range(3)))

    def test_nobody_has_the_labels_of_test(self, tmp_path):
        save(tmp_path / "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png", 0)
        save(tmp_path / "gtFine/test/bonn/bonn_000000_000019_gtFine_labelIds.png", 0, (HEIGHT, WIDTH))
        data = Cityscapes(tmp_path, "test")
        assert data.label(0) is None
        with pytest.raises(ValueError, match="expected labelled images in the list 'test' of Cityscapes"):
            labelled_indices(data)

    def test_a_submission_holds_label_ids_under_the_frames_name(self, tmp_path):
        self.tree(tmp_path)
        data = Cityscapes(tmp_path, "val")
        labels = torch.arange(HEIGHT * WIDTH, dtype=torch.uint8).view(HEIGHT, WIDTH) % 19
        path = data.write_submission(49, labels, tmp_path / "out")
        assert path == tmp_path / "out" / "bochum_000000_000059.png"
        written = np.array(Image.open(path))
        assert written.dtype == np.uint8
        assert written.ravel().tolist() == [cityscapes.LABEL_IDS[value] for value in labels.flatten().tolist()]
        assert [p.name for p in (tmp_path / "out").iterdir()] == [path.name]
        # What is written reads as what was predicted.
        path.replace(tmp_path / "gtFine/val/bochum/bochum_000000_000059_gtFine_labelIds.png")
        assert torch.equal(Cityscapes(tmp_path, "val").label(49), labels)
        with pytest.raises(ValueError, match=r"6x4, got values to 0 of shape \(2, 2\)"):
            data.write_submission(49, torch.zeros(2, 2, dtype=torch.uint8), tmp_path / "out")
        with pytest.raises(ValueError, match="values to 255"):
            data.write_submission(49, torch.full((HEIGHT, WIDTH), 255, dtype=torch.uint8), tmp_path / "out")

    def test_other_names_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="found none"):
            Cityscapes(tmp_path, "train")
        save(tmp_path / "leftImg8bit_sequence/train/ulm/first_leftImg8bit.png", 0)
        with pytest.raises(ValueError, match="aachen_000000_000019, got 'first'"):
            Cityscapes(tmp_path, "train")


class TestFolder:
    def tree(self, place, numbers=(1, 2, 10, 11)):
        for number in numbers:
            save(place / "images" / f"f{number}.png", number)
            save(place / "labels" / f"f{number}.png", number, (HEIGHT, WIDTH))

    def test_frames_in_the_order_of_their_numbers(self, tmp_path):
        self.tree(tmp_path)
        data = open_dataset(tmp_path, "train")
        assert [data.image(i)[0, 0, 0].item() for i in range(4)] == [1, 2, 10, 11]
        assert [data.label(i)[0, 0].item() for i in range(4)] == [1, 2, 10, 11]
        assert data.classes == CAMVID.names and data.videos == [range(4)]

    def test_splits_classes_and_videos(self, tmp_path):
        self.tree(tmp_path / "val")
        (tmp_path / "classes.txt").write_text("grass\ntall grass 10 20 30\n")
        (tmp_path / "val" / "videos.txt").write_text("f1\nf10\n")
        (tmp_path / "val" / "labels" / "f2.png").unlink()
        data = open_dataset(f"folder:{tmp_path}", "val")
        assert data.classes == ("grass", "tall grass") and data.palette[1] == (10, 20, 30)
        assert data.videos == [range(0, 2), range(2, 4)]
        assert [data.labelled(i) for i in range(4)] == [True, False, True, True]

    def test_what_does_not_fit_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="expected images"):
            Folder(tmp_path, "train")
        self.tree(tmp_path)
        (tmp_path / "videos.txt").write_text("f2\n")
        with pytest.raises(ValueError, match="first image's first; got f2"):
            Folder(tmp_path, "train")
        (tmp_path / "videos.txt").unlink()
        (tmp_path / "classes.txt").write_text("a 1 2 300\n")
        with pytest.raises(ValueError, match="numbers to 255"):
            Folder(tmp_path, "train")
        (tmp_path / "classes.txt").unlink()
        save(tmp_path / "labels" / "f1.png", 3)
        with pytest.raises(ValueError, match=r"one a pixel, got \(4, 6, 3\)"):
            Folder(tmp_path, "train").label(0)
        save(tmp_path / "labels" / "stray.png", 3)
        with pytest.raises(ValueError, match="got none for stray"):
            Folder(tmp_path, "train")
        save(tmp_path / "images" / "f1.jpg", 3)
        with pytest.raises(ValueError, match="one image a name"):
            Folder(tmp_path, "train")

    def test_labels_of_another_size_are_refused(self, tmp_path):
        self.tree(tmp_path)
        save(tmp_path / "labels" / "f2.png", 2, (WIDTH, HEIGHT))
        data = Folder(tmp_path, "train")
        with pytest.raises(ValueError, match=r"6x4 labels as .*images/f2\.png .* got 4x6 in .*labels/f2\.png"):
            data.label(1)
        assert data.label(0).shape == (HEIGHT, WIDTH)

    def test_labels_are_png_whatever_the_case_of_their_suffix(self, tmp_path):
        self.tree(tmp_path)
        (tmp_path / "labels" / "f2.png").rename(tmp_path / "labels" / "f2.PNG")
        assert Folder(tmp_path, "train").label(1)[0, 0] == 2
        save(tmp_path / "labels" / "f2.jpg", 3, (HEIGHT, WIDTH))
        with pytest.raises(ValueError, match=r"PNG files of class indices in .*labels, got f2\.jpg; save labels as"):
            Folder(tmp_path, "train")

    def test_greys_of_16_bits_become_8(self, tmp_path):
        self.tree(tmp_path)
        Image.fromarray(np.full((HEIGHT, WIDTH), 51200, np.uint16)).save(tmp_path / "images" / "f2.png")
        assert Folder(tmp_path, "train").image(1).unique().tolist() == [200]

    def test_a_broken_image_is_named(self, tmp_path):
        self.tree(tmp_path)
        (tmp_path / "images" / "f2.png").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"f2\.png', which can't be read"):
            Folder(tmp_path, "train").image(1)
