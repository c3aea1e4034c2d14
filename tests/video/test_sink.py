import numpy as np
import pytest
from PIL import Image

from lowlat.video.labels import LabelSink
from lowlat.video.sink import SinkError, VideoSink, is_video_path
from lowlat.video.source import open_source

PALETTE = ((10, 20, 30), (200, 100, 0))


def picture(level, size):
    return np.full((size[1], size[0], 3), level, np.uint8)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_what_is_written_plays(tmp_path, size, suffix):
    path = tmp_path / f"out{suffix}"
    with VideoSink(path, size, 12.5) as sink:
        for index in range(10):
            sink.write(picture(index * 20, size))
        assert not path.exists()
    with open_source(path) as source:
        frames = list(source)
    assert source.fps == 12.5
    assert source.size == (64, 48)
    assert [round(float(frame.mean()) / 20) for frame in frames] == list(range(10))
    assert left(tmp_path) == [path.name]


def test_what_was_written_before_an_interruption_plays(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), VideoSink(path, (64, 48), 25) as sink:
        for index in range(7):
            sink.write(picture(index, (64, 48)))
        raise KeyboardInterrupt
    with open_source(path) as source:
        assert len(list(source)) == 7
    assert left(tmp_path) == ["out.mp4"]


def test_nothing_written_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    VideoSink(path, (64, 48), 25).close()
    assert left(tmp_path) == []
    path.write_bytes(b"from before")
    VideoSink(path, (64, 48), 25).close()
    assert path.read_bytes() == b"from before"
    assert left(tmp_path) == ["out.mp4"]


def test_what_is_abandoned_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"from before")
    with VideoSink(path, (64, 48), 25) as sink:
        sink.write(picture(0, (64, 48)))
        sink.abandon()
    assert path.read_bytes() == b"from before"
    assert left(tmp_path) == ["out.mp4"]


def test_pictures_bear_their_times(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, (64, 48), 10) as sink:
        for time_s in (0, 0.1, 0.8, 0.9):
            sink.write(picture(0, (64, 48)), time_s)
    with open_source(path) as source:
        assert source.frames == 4
        assert float(source.fps) == pytest.approx(4.0, abs=0.5)  # four pictures in one second


@pytest.mark.parametrize("place", ["none/out.mp4", "file/out.mp4"])
def test_an_unwritable_place_is_told_at_once(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError) as error:
        VideoSink(tmp_path / place, (64, 48), 25)
    assert "expected" in str(error.value) and "\n" not in str(error.value)
    assert left(tmp_path) == ["file"]


def test_a_folder_is_no_name_for_a_video(tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(SinkError, match="folder"):
        VideoSink(tmp_path / "out.mp4", (64, 48), 25)


def test_pictures_must_fit(tmp_path):
    with VideoSink(tmp_path / "out.mp4", (64, 48), 25) as sink:
        with pytest.raises(ValueError, match="expected uint8 pictures"):
            sink.write(picture(0, (64, 50)))
        sink.write(picture(0, (64, 48)), 3)
        with pytest.raises(ValueError, match="above 3 s"):
            sink.write(picture(0, (64, 48)), 3)


def test_label_maps_come_back_as_they_were(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2
    with LabelSink(tmp_path / "out", PALETTE) as sink:
        sink.write(labels)
        sink.write(1 - labels, 5)
    assert left(tmp_path / "out") == ["000000.png", "000005.png"]
    image = Image.open(tmp_path / "out" / "000000.png")
    assert image.mode == "P"
    assert np.array_equal(np.array(image), labels)
    assert image.convert("RGB").getpixel((1, 0)) == PALETTE[1]


def test_a_folder_made_for_nothing_goes_again(tmp_path):
    LabelSink(tmp_path / "out", PALETTE).close()
    assert left(tmp_path) == []


def test_two_runs_never_mix_in_one_folder(tmp_path):
    (tmp_path / "000000.png").touch()
    with pytest.raises(SinkError, match="empty"):
        LabelSink(tmp_path, PALETTE)


def test_a_file_is_no_folder_for_labels(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="expected a folder"):
        LabelSink(tmp_path / "file" / "out", PALETTE)


def test_the_suffix_says_what_an_output_is(tmp_path):
    assert is_video_path("a/out.mp4") and is_video_path("out.MKV")
    assert not is_video_path("out") and not is_video_path(tmp_path)
    with pytest.raises(SinkError, match="suffix"):
        is_video_path("out.gif")
