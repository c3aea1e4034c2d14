"""What `lowlat segment` leaves matches its inputs: names, indices, times, classes; and no more than was asked for."""

import io
import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lowlat.classes import CAMVID
from lowlat.cli import app

VARYING_MS = [0, 40, 80, 120, 1000, 1200, 1400, 1600]


@pytest.fixture
def folder(tmp_path):
    """Images of a class each, by the fake segmenter: grey level 10 * n is class n."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b2.png", "b10.png")):
        Image.fromarray(np.full((48, 64, 3), number * 10, np.uint8)).save(folder / name)
    (folder / "._a.png").write_bytes(b"\x00\x05\x16\x07 resource fork")
    return folder


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def in_bytes(*words):
    """Runs the command line; gives exit code, stdout as bytes, stderr."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout_bytes, result.stderr


def test_label_maps_of_a_folder_have_the_names_of_its_images(lowlat, segmenter, folder, tmp_path):
    assert lowlat("segment", folder, "-o", tmp_path / "out")[0] == 0
    assert left(tmp_path / "out") == ["a.png", "b10.png", "b2.png", "classes.json"]
    for number, name in enumerate(("a.png", "b2.png", "b10.png")):
        assert set(np.unique(np.array(Image.open(tmp_path / "out" / name)))) == {number}


@pytest.mark.parametrize("spec, names", [("b%d.png", ["b10.png", "b2.png"]), ("?.png", ["a.png"])])
def test_patterns_and_globs_are_sources(lowlat, segmenter, folder, tmp_path, spec, names):
    assert lowlat("segment", folder / spec, "-o", tmp_path / "out")[0] == 0
    assert left(tmp_path / "out") == [*names, "classes.json"]


def test_label_maps_of_a_folder_are_numbered_if_asked(lowlat, segmenter, folder, tmp_path):
    assert lowlat("segment", folder, "-o", tmp_path / "out", "--names", "index")[0] == 0
    assert left(tmp_path / "out") == ["000000.png", "000001.png", "000002.png", "classes.json"]


def test_a_damaged_image_takes_no_name_of_another(lowlat, segmenter, folder, tmp_path):
    (folder / "b2.png").write_bytes(b"no image")
    code, _, err = lowlat("segment", folder, "-o", tmp_path / "out")
    assert code == 2 and "b2.png" in err.splitlines()[-1]
    assert left(tmp_path / "out") == ["a.png", "b10.png", "classes.json"]
    assert set(np.unique(np.array(Image.open(tmp_path / "out" / "b10.png")))) == {2}


def test_frames_of_a_video_have_no_stems(refused, segmenter, clip, tmp_path):
    assert "--names index" in refused("segment", clip, "-o", tmp_path / "out", "--names", "stem")
    assert left(tmp_path) == ["clip.mp4"]


def test_opencv_reads_grey_label_maps_as_indices(lowlat, segmenter, folder, tmp_path):
    assert lowlat("segment", folder, "-o", tmp_path / "out", "--labels", "grey")[0] == 0
    read = cv2.imread(str(tmp_path / "out" / "b2.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8 and np.array_equal(read, np.full((48, 64), 1))


def test_run_lengths_carry_index_time_and_name(lowlat, segmenter, folder, clip, tmp_path):
    assert lowlat("segment", folder, "-o", tmp_path / "images", "--labels", "rle")[0] == 0
    assert left(tmp_path / "images") == ["classes.json", "labels.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "images" / "labels.jsonl").read_text().splitlines()]
    assert [(line["name"], line["index"], line["runs"]) for line in lines] == [
        ("a", 0, [[0, 48 * 64]]),
        ("b2", 1, [[1, 48 * 64]]),
        ("b10", 2, [[2, 48 * 64]]),
    ]
    assert lowlat("segment", clip, "-o", tmp_path / "video", "--labels", "rle")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "video" / "labels.jsonl").read_text().splitlines()]
    assert [(line["index"], line["time_s"]) for line in lines] == [(index, index / 25) for index in range(20)]
    assert all("name" not in line and line["size"] == [48, 64] for line in lines)


@pytest.mark.parametrize("labels", ["palette", "grey", "rle"])
def test_the_networks_classes_lie_beside_the_label_maps(lowlat, segmenter, clip, tmp_path, labels):
    assert lowlat("segment", clip, "-o", tmp_path / "out", "--labels", labels, "--max-frames", 2)[0] == 0
    said = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert tuple(said["names"]) == CAMVID.names
    assert tuple(map(tuple, said["palette"])) == CAMVID.palette


def test_a_video_goes_to_standard_output_alone(segmenter, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = in_bytes("segment", clip, "-o", "-", "--format", "mkv", "--json")
    assert code == 0 and left(tmp_path) == ["clip.mp4"]
    with av.open(io.BytesIO(out)) as container:
        assert "matroska" in container.format.name
        frames = [(float(frame.pts * frame.time_base), frame.width) for frame in container.decode(video=0)]
    assert frames == [(pytest.approx(index / 25, abs=1e-3), 64) for index in range(20)]
    report = json.loads(err[err.index("{\n") :])
    assert (report["output"], report["frames"]) == ("-", 20)


@pytest.fixture
def varying(tmp_path):
    """A clip with pixels twice as wide as high, frames 0 to 3 at 0.04 s apart, 4 to 7 from 1 s on at 0.2 s."""
    path = tmp_path / "varying.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index * 10 + 5, np.uint8), "rgb24")
            frame.pts, frame.time_base = VARYING_MS[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_what_goes_to_standard_output_keeps_times_and_aspect(segmenter, varying):
    code, out, err = in_bytes("segment", varying, "-o", "-")
    assert code == 0, err
    with av.open(io.BytesIO(out)) as container:
        video = container.streams.video[0]
        assert video.codec_context.sample_aspect_ratio == 2
        assert [round(1000 * frame.time) for frame in container.decode(video)] == VARYING_MS
    code, out, _ = in_bytes("segment", varying, "-o", "-", "--format", "jsonl")
    assert [round(1000 * json.loads(line)["time_s"]) for line in out.splitlines()] == VARYING_MS


def test_what_goes_to_standard_output_has_a_constant_rate_if_asked(segmenter, varying):
    code, out, err = in_bytes("segment", varying, "-o", "-", "--constant-rate")
    assert code == 0, err
    with av.open(io.BytesIO(out)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    steps = np.diff(times)
    assert len(times) > 8 and steps.max() - steps.min() < 2.5e-3
    assert times[-1] == pytest.approx(1.6, abs=0.1)


def test_label_maps_go_to_standard_output_as_lines(segmenter, clip, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = in_bytes("segment", clip, "-o", "-", "--format", "jsonl")
    assert code == 0 and "frames answered" in err
    assert [json.loads(line)["index"] for line in out.splitlines()] == list(range(20))
    code, out, _ = in_bytes("segment", folder, "-o", "-", "--labels", "rle")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["a", "b2", "b10"]
    assert left(tmp_path) == ["clip.mp4", "shots"]


@pytest.mark.parametrize(
    "output, options, words",
    [
        ("out", ("--labels", "gray"), "--labels to be one of palette, grey, rle"),
        ("out", ("--names", "both"), "--names to be one of index, stem"),
        ("-", ("--format", "mp4"), "--format to be one of mkv, jsonl"),
        ("out", ("--format", "jsonl"), "--format with the output '-'"),
        ("out.mp4", ("--labels", "grey"), "--labels with a folder"),
        ("out.mp4", ("--names", "index"), "--names with label maps"),
        ("-", ("--names", "index"), "--names with label maps"),
        ("-", ("--labels", "grey"), "--labels rle with --format jsonl"),
        ("-", ("--labels", "rle", "--format", "mkv"), "--labels rle with --format jsonl"),
    ],
)
def test_words_that_do_not_fit_are_refused(refused, segmenter, clip, tmp_path, monkeypatch, output, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused("segment", clip, "-o", output, *options)
    assert left(tmp_path) == ["clip.mp4"]


def test_label_maps_among_their_own_inputs_are_refused(refused, segmenter, folder, tmp_path):
    before = left(folder)
    Image.open(folder / "a.png").save(folder / "a.jpg")
    for name in before:
        (folder / name).unlink()
    assert "name another folder" in refused("segment", folder, "-o", folder)
    assert left(folder) == ["a.jpg"]


@pytest.mark.parametrize("words", [("demo", "-"), ("latency", "-")])
def test_what_reads_its_input_twice_refuses_standard_input(refused, words):
    assert "can be read once" in refused(*words)
