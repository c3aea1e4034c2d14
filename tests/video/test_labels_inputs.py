"""Which images are read from a folder, a pattern or a glob, and what their label maps are called."""

import numpy as np
import pytest
from PIL import Image

from lowlat.lab.data.folder import Folder
from lowlat.video.labels import LabelSink
from lowlat.video.listing import is_pattern, list_images, stems_of
from lowlat.video.source import SourceError, open_source


@pytest.fixture
def images(tmp_path):
    """Makes small images, the n-th of them of grey level n * 5."""

    def make(*names):
        for index, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 8, 3), index * 5, np.uint8)).save(path)
        return tmp_path

    return make


def listed(spec, root):
    return [path.relative_to(root).as_posix() for path in list_images(spec)]


def test_hidden_files_are_no_images(images):
    root = images("1.png", "2.png")
    (root / "._1.png").write_bytes(b"\x00\x05\x16\x07 resource fork")
    (root / ".hidden.jpg").write_bytes(b"no image")
    with open_source(root) as source:
        assert source.frames == 2 and len(list(source)) == 2


def test_a_folder_called_like_an_image_is_none(images):
    root = images("1.png", "2.png/inside.png")
    assert listed(root, root) == ["1.png"]


def test_a_numbered_pattern_gives_its_images_by_number(images):
    root = images("img002.png", "img010.png", "img1000.png", "img001.png", "img7.png", "other001.png", "img003.jpg")
    assert listed(root / "img%03d.png", root) == ["img001.png", "img002.png", "img010.png", "img1000.png"]
    assert listed(root / "img%d.png", root) == ["img7.png", "img1000.png"]
    with open_source(root / "img%03d.png") as source:
        assert [int(frame[0, 0, 0]) // 5 for frame in source] == [3, 0, 1, 2]


def test_a_pattern_may_hold_a_percent_sign_and_what_regular_expressions_read(images):
    root = images("50%+(1)_7.png", "50%+(1)_8.png", "50%%+(1)_9.png")
    assert listed(root / "50%%+(1)_%d.png", root) == ["50%+(1)_7.png", "50%+(1)_8.png"]
    assert not is_pattern("50%%d.png")


def test_a_file_called_like_a_pattern_is_itself(images, make_clip):
    root = images("1.png")
    clip = make_clip("img%03d.mp4")
    with open_source(clip) as source:
        assert source.frames == 20
    folder = root / "set[1]*"
    folder.mkdir()
    (root / "1.png").rename(folder / "1.png")
    with open_source(folder) as source:
        assert source.frames == 1


def test_a_glob_gives_its_images_in_natural_order(images):
    root = images("cam/2.png", "cam/10.png", "cam/1.png", "cam/1.jpg", "cam/notes.png.png")
    (root / "cam" / "._1.png").write_bytes(b"hidden")
    assert listed(root / "cam" / "*.png", root) == ["cam/1.png", "cam/2.png", "cam/10.png", "cam/notes.png.png"]
    assert listed(root / "cam" / "?.png", root) == ["cam/1.png", "cam/2.png"]
    assert listed(root / "cam" / "[2-9].png", root) == ["cam/2.png"]


def test_a_glob_reaches_over_folders_one_after_the_other(images):
    root = images("run10/1.png", "run2/2.png", "run2/1.png", "run2/deep/1.png")
    assert listed(root / "run*" / "*.png", root) == ["run2/1.png", "run2/2.png", "run10/1.png"]
    assert len(listed(root / "**" / "*.png", root)) == 4


def test_folders_that_exist_stand_for_themselves_in_a_glob(images):
    root = images("shots [1]/a.png", "shots [1]/b.png", "shots 1/c.png")
    assert listed(root / "shots [1]" / "*.png", root) == ["shots [1]/a.png", "shots [1]/b.png"]


def test_a_relative_glob_is_found(images, monkeypatch):
    monkeypatch.chdir(images("a.png", "b.png"))
    with open_source("*.png") as source:
        assert source.frames == 2 and source.stems == ["a", "b"]


@pytest.mark.parametrize("spec", ["none%03d.png", "none*.png", "folder/none%d.png", "*.mp4", "no/where/*.png"])
def test_what_matches_no_image_says_so(images, spec):
    root = images("1.png")
    (root / "clip.mp4").touch()
    with pytest.raises(SourceError, match="expected images .* found none") as error:
        open_source(root / spec)
    assert spec in str(error.value) and "\n" not in str(error.value)


def test_stems_are_the_names_of_the_images(images):
    root = images("b.png", "frame.000010.jpg", "a.png")
    with open_source(root) as source:
        assert source.stems == ["a", "b", "frame.000010"]


@pytest.mark.parametrize(
    "names, stems",
    [
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg", "a.jpg.png", "a.png"]),
        (["left/1.png", "right/1.png"], ["left/1", "right/1"]),
        (["left/1.png", "left/2.png"], ["1", "2"]),
    ],
)
def test_no_two_stems_are_the_same(images, names, stems):
    root = images(*names)
    assert stems_of([root / name for name in names]) == stems


def test_a_video_has_no_stems(make_clip):
    with open_source(make_clip()) as source:
        assert source.stems is None


def test_damaged_images_leave_a_gap_and_are_told_at_the_end(images):
    root = images("0.png", "1.png", "2.png", "3.png")
    (root / "0.png").write_bytes(b"no image")
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:40])
    with open_source(root) as source:
        taken = []
        with pytest.raises(SourceError, match="0.png") as error:
            for timed in source.timed():
                taken.append((timed.index, round(timed.time_s * 25), int(timed.frame[0, 0, 0])))
    assert taken == [(1, 1, 5), (3, 3, 15)]
    assert source.missing == [0, 2]
    assert "2 of 4" in str(error.value)


def test_hidden_files_are_no_images_of_a_data_set(images):
    root = images("images/1.png", "images/2.png", "labels/1.png")
    for hidden in ("images/._1.png", "labels/._1.png"):
        (root / hidden).write_bytes(b"\x00\x05\x16\x07 resource fork")
    assert [path.name for path in Folder(root, "val").images] == ["1.png", "2.png"]


def test_a_label_map_may_have_as_long_a_name_as_its_image(tmp_path):
    names = [f"{'x' * 250}.png", f"{'x' * 249}y.png"]
    with LabelSink(tmp_path / "out", [(0, 0, 0)], stems=[name.removesuffix(".png") for name in names]) as sink:
        for index in range(2):
            sink.write(np.zeros((4, 4), np.uint8), index)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
