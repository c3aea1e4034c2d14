"""Label maps as files: that readers see the indices, that names match the inputs, that no broken file is left."""

import errno
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from lowlat.video import labels as labels_module
from lowlat.video.files import SinkError
from lowlat.video.labels import LabelSink, RunLengthSink, run_length_line, runs_of

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))
NAMES = ("road", "tree", "sky")
LABELS = np.array([[0, 0, 1, 1], [2, 2, 2, 1], [1, 0, 0, 0]], np.uint8)


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def decoded(line):
    classes, lengths = zip(*line["runs"], strict=True)
    return np.repeat(np.array(classes, np.uint8), lengths).reshape(line["size"])


def test_opencv_reads_grey_maps_as_the_indices(tmp_path):
    with LabelSink(tmp_path / "out", PALETTE, grey=True) as sink:
        sink.write(LABELS, 3)
    read = cv2.imread(str(tmp_path / "out" / "000003.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8 and read.shape == LABELS.shape
    assert np.array_equal(read, LABELS)


def test_palette_maps_show_the_colours_and_keep_the_indices(tmp_path):
    with LabelSink(tmp_path / "out", PALETTE) as sink:
        sink.write(LABELS)
    image = Image.open(tmp_path / "out" / "000000.png")
    assert image.mode == "P" and np.array_equal(np.array(image), LABELS)
    assert np.array_equal(np.array(image.convert("RGB")), np.array(PALETTE, np.uint8)[LABELS])


@pytest.mark.parametrize("kind", [LabelSink, RunLengthSink])
def test_names_and_palette_lie_beside_the_maps(tmp_path, kind):
    with kind(tmp_path / "out", PALETTE, names=NAMES) as sink:
        sink.write(LABELS)
    said = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert said == {"names": list(NAMES), "palette": [list(colour) for colour in PALETTE]}


@pytest.mark.parametrize("kind", [LabelSink, RunLengthSink])
def test_a_folder_made_for_nothing_goes_again(tmp_path, kind):
    kind(tmp_path / "out", PALETTE, names=NAMES).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [LabelSink, RunLengthSink])
def test_a_disk_full_from_the_start_leaves_nothing(tmp_path, monkeypatch, kind):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(labels_module, "write_whole", full)
    with kind(tmp_path / "out", PALETTE, names=NAMES) as sink, pytest.raises(SinkError, match="No space left"):
        sink.write(LABELS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [LabelSink, RunLengthSink])
@pytest.mark.parametrize("used", ["000000.png", "labels.jsonl"])
def test_two_runs_never_mix_in_one_folder(tmp_path, kind, used):
    (tmp_path / used).touch()
    with pytest.raises(SinkError, match="empty it or choose another"):
        kind(tmp_path, PALETTE, names=NAMES)


def test_a_map_gets_the_name_of_its_input(tmp_path):
    with LabelSink(tmp_path / "out", PALETTE, stems=["b", "frame.010", "left/a"]) as sink:
        for index in (0, 1, 2):
            sink.write(LABELS, index)
    assert left(tmp_path / "out") == ["b.png", "frame.010.png", "left/a.png"]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        np.zeros((5, 7), np.uint8),
        np.arange(256, dtype=np.uint8).reshape(16, 16),
        np.asfortranarray(LABELS),
        LABELS[:, ::-2],
        np.zeros((1, 1), np.uint8),
    ],
)
def test_run_lengths_come_back_as_the_map(labels):
    line = json.loads(run_length_line(labels, 4, 0.16))
    assert (line["index"], line["time_s"], line["size"]) == (4, 0.16, list(labels.shape))
    assert np.array_equal(decoded(line), labels)
    assert all(before[0] != after[0] for before, after in zip(line["runs"], line["runs"][1:], strict=False))


def test_runs_go_row_by_row():
    assert runs_of(LABELS) == [[0, 2], [1, 2], [2, 3], [1, 2], [0, 3]]


def test_a_line_a_frame_with_index_time_and_name(tmp_path):
    with RunLengthSink(tmp_path / "out", PALETTE, names=NAMES, stems=["a", "b", "c"]) as sink:
        sink.write(LABELS, 0, 0.0)
        sink.write(LABELS, 2, 2.28)
    lines = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert [(line["index"], line["name"], line["time_s"]) for line in lines] == [(0, "a", 0.0), (2, "c", 2.28)]
    assert "name" not in json.loads(run_length_line(LABELS, 0, None))


def test_a_line_can_be_read_before_the_run_ends(tmp_path):
    with RunLengthSink(tmp_path / "out", PALETTE) as sink:
        sink.write(LABELS, 0, 0.0)
        assert len((tmp_path / "out" / "labels.jsonl").read_text().splitlines()) == 1


def test_a_full_disk_leaves_whole_lines_and_says_how_many(tmp_path, monkeypatch):
    whole, writes = labels_module.write_whole, []

    def filling(stream, data):
        writes.append(data)
        if len(writes) > 2:
            whole(stream, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(stream, data)

    monkeypatch.setattr(labels_module, "write_whole", filling)
    with RunLengthSink(tmp_path / "out", PALETTE) as sink:
        sink.write(LABELS)
        sink.write(LABELS)
        with pytest.raises(SinkError, match="No space left.*the 2 label maps"):
            sink.write(LABELS)
    lines = (tmp_path / "out" / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1]


def test_a_full_disk_leaves_whole_images_and_says_how_many(tmp_path, monkeypatch):
    with LabelSink(tmp_path / "out", PALETTE) as sink:
        sink.write(LABELS)

        def full(self, path, **_):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(SinkError, match="No space left.*the 1 label maps"):
            sink.write(LABELS)
    assert left(tmp_path / "out") == ["000000.png"]


@pytest.mark.parametrize("kind", [LabelSink, RunLengthSink])
@pytest.mark.parametrize("labels", [LABELS[..., None], LABELS.astype(np.int64)])
def test_labels_of_another_shape_or_type_are_refused(tmp_path, kind, labels):
    with kind(tmp_path / "out", PALETTE) as sink, pytest.raises(ValueError, match=r"expected uint8 labels \(H, W\)"):
        sink.write(labels)
