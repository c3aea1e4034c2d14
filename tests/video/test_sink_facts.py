"""What a written video states: times, index, pixels, colours, sound; and how it ends."""

import os
import signal
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from timed_clips import SIZE, VARYING, boxes, number_of, picture, times_of, write_clip

from lowlat.video.remux import cut_to_whole_boxes, measure
from lowlat.video.sink import SinkError, VideoSink
from lowlat.video.source import open_source


def write(path, times=VARYING, **facts):
    with VideoSink(path, SIZE, 25, **facts) as sink:
        for index, time_s in enumerate(times):
            sink.write(picture(index), time_s)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pictures_are_shown_when_they_were(tmp_path, suffix):
    path = write(tmp_path / f"out{suffix}")
    assert times_of(path) == pytest.approx(VARYING, abs=0.0006 if suffix == ".mkv" else 1e-5)
    with av.open(str(path)) as container:
        # The last picture lasts as long as the one before it.
        assert container.duration / av.time_base == pytest.approx(VARYING[-1] + 0.2, abs=0.002)


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25, 2), Fraction(60)])
def test_a_steady_rate_is_kept_to_the_digit(tmp_path, fps):
    path = tmp_path / "out.mp4"
    with VideoSink(path, SIZE, fps) as sink:
        for index in range(20):
            sink.write(picture(index), float(index / fps))
    with open_source(path) as source:
        assert source.fps == fps


def test_an_mp4_is_plain_and_starts_with_its_index(tmp_path):
    names = boxes(write(tmp_path / "out.mp4"))
    assert "moof" not in names and names.index("moov") < names.index("mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_shape_of_the_pixels_is_kept(tmp_path, suffix):
    with open_source(write_clip(tmp_path / f"in{suffix}", aspect=Fraction(4, 3))) as source:
        assert source.pixel_aspect == Fraction(4, 3)
        path = write(tmp_path / f"out{suffix}", pixel_aspect=source.pixel_aspect)
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    with open_source(tmp_path / f"in{suffix}", resize=(32, 48)) as source:
        # Half as wide: each pixel is twice as wide.
        assert source.pixel_aspect == Fraction(8, 3)


def test_pixels_of_a_video_that_is_turned_are_turned(tmp_path):
    path = write_clip(tmp_path / "in.mp4", aspect=Fraction(4, 3), turned=90)
    with open_source(path) as source:
        assert source.size == (SIZE[1], SIZE[0]) and source.pixel_aspect == Fraction(3, 4)


@pytest.mark.parametrize("rows, tags", [(718, (6, 6, 6)), (720, (1, 1, 1))])
def test_colours_are_tagged_as_they_are_converted(tmp_path, rows, tags):
    path, colours = tmp_path / "out.mp4", [(230, 30, 30), (30, 230, 30), (30, 30, 230), (200, 180, 20)]
    with VideoSink(path, (64, rows), 25) as sink:
        for colour in colours:
            sink.write(np.full((rows, 64, 3), colour, np.uint8))
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    first = frames[0]
    assert (first.colorspace, first.color_primaries, first.color_trc, first.color_range) == (*tags, 1)
    red, blue = (0.2126, 0.0722) if tags[0] == 1 else (0.299, 0.114)
    for frame, colour in zip(frames, colours, strict=True):
        luma = float(np.dot((red, 1 - red - blue, blue), colour))
        assert frame.to_ndarray()[: frame.height].mean() == pytest.approx(16 + luma * 219 / 255, abs=2)
        assert frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(0) == pytest.approx(colour, abs=5)


@pytest.mark.parametrize(
    "name, codec, sound, suffix",
    [
        ("in.mp4", "h264", "aac", ".mp4"),
        ("in.webm", "libvpx", "libopus", ".mp4"),
        ("in.mkv", "h264", "libopus", ".mkv"),
        ("in.avi", "mpeg4", "mp3", ".mov"),
        ("in.ts", "mpeg2video", "mp2", ".mp4"),
    ],
)
def test_sound_is_copied(tmp_path, name, codec, sound, suffix):
    path, out = write_clip(tmp_path / name, codec=codec, sound=sound, seconds=1.5), tmp_path / f"out{suffix}"
    with open_source(path) as source:
        with VideoSink(out, SIZE, 25, audio=source.audio) as sink:
            assert sink.notice == ""
            for timed in source.timed():
                sink.write(timed.frame, timed.time_s)
    began = min(times_of(path)) if name == "in.ts" else 0
    wanted = [time_s - began for time_s in times_of(path, "audio")]
    heard = times_of(out, "audio")
    # A packet that only prepares the decoder has no place before the start of a Matroska file.
    wanted = [time_s for time_s in wanted if suffix != ".mkv" or time_s >= 0]
    assert heard == pytest.approx(wanted, abs=0.002)
    assert min(times_of(out)) == pytest.approx(0, abs=1e-6)


def test_sound_ends_with_the_pictures_of_a_part(tmp_path):
    path, out = write_clip(tmp_path / "in.mp4", sound="aac", seconds=1.5), tmp_path / "out.mp4"
    with open_source(path) as source, VideoSink(out, SIZE, 25, audio=source.audio) as sink:
        for timed, _ in zip(source.timed(), range(6), strict=False):
            sink.write(timed.frame, timed.time_s)
    assert 0.2 < max(times_of(out, "audio")) <= 6 / 25


def test_sound_that_a_container_cannot_hold_is_left_out_in_words(tmp_path):
    path, out = write_clip(tmp_path / "in.mov", sound="pcm_mulaw"), tmp_path / "out.mp4"
    with open_source(path) as source:
        sink = VideoSink(out, SIZE, 25, audio=source.audio)
        assert "pcm_mulaw" in sink.notice
        sink.write(picture(0), 0.0)
        sink.close()
    with av.open(str(out)) as container:
        assert len(container.streams.video) == 1 and not container.streams.audio


def test_a_constant_rate_repeats_and_leaves_out_to_keep_the_time(tmp_path):
    path = write(tmp_path / "out.mp4", [0, 0.04, 0.2, 0.21, 0.23, 0.36], constant=True)
    with open_source(path) as source:
        got = [(round(timed.time_s * 25), number_of(timed.frame)) for timed in source.timed()]
    assert got == [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 3), (6, 4), (7, 4), (8, 4), (9, 5)]


def test_times_must_rise(tmp_path):
    with VideoSink(tmp_path / "out.mp4", SIZE, 25) as sink:
        sink.write(picture(0), 1.0)
        for wrong in (1.0, 0.5, -1.0):
            with pytest.raises(ValueError, match="order of their times"):
                sink.write(picture(1), wrong)


# Writes noisy pictures; ends by a signal after so many, or where the file may not grow.
PROGRAM = """
import os, resource, signal, sys
import numpy as np
from lowlat.video.sink import SinkError, VideoSink
path, most, killed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
sink = VideoSink(path, (160, 96), 25)
random = np.random.default_rng(0)
try:
    for index in range(400):
        if index == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        sink.write(random.integers(0, 256, (96, 160, 3), dtype=np.uint8), index / 25)
except SinkError as error:
    print(error)
sink.close()
"""


def run(path, most=0, killed=-1):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(most), str(killed)], capture_output=True, text=True
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_full_disk_keeps_what_fits_and_says_how_much(tmp_path, suffix):
    """A limit of the file's size stands in for a disk: writing fails in the same place."""
    path = tmp_path / f"out{suffix}"
    told = run(path, most=900_000).stdout
    kept = measure(path)[0]
    assert kept > 25
    assert f"its first {kept} pictures are kept there" in told and "make room" in told
    with open_source(path) as source:
        assert [timed.index for timed in source.timed()] == list(range(kept))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_was_written_before_a_kill_plays(tmp_path, suffix):
    ended = run(tmp_path / f"out{suffix}", killed=150)
    assert ended.returncode == -signal.SIGKILL
    (part,) = tmp_path.iterdir()
    assert part.name.startswith("out.") and part.name.endswith(f".part{suffix}")
    # The encoder and one fragment hold back less than two seconds.
    assert 100 <= measure(part)[0] <= 150
    times = times_of(part)
    assert times == pytest.approx([index / 25 for index in range(len(times))], abs=0.0006)


def test_a_torn_fragment_is_cut_off(tmp_path):
    run(tmp_path / "out.mp4", killed=150)
    (part,) = tmp_path.iterdir()
    whole = measure(part)[0]
    size = part.stat().st_size
    os.truncate(part, size - 1000)
    cut_to_whole_boxes(part)
    assert part.stat().st_size < size - 1000
    assert 0 < measure(part)[0] < whole
    with open_source(part) as source:
        assert len(list(source)) == measure(part)[0]


def test_a_disk_too_full_for_the_plain_file_keeps_the_one_that_grew(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lowlat.video.sink.finish", full)
    path = tmp_path / "out.mp4"
    with pytest.raises(SinkError, match="its first 16 pictures are kept"):
        write(path)
    assert "moof" in boxes(path) and times_of(path) == pytest.approx(VARYING, abs=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_a_slow_camera_all_but_the_last_pictures_can_be_played_at_any_time(tmp_path, suffix):
    sink = VideoSink(tmp_path / f"out{suffix}", SIZE, 25, live=True)
    for index in range(5):
        sink.write(picture(index), index * 2.0)
        (grown,) = tmp_path.iterdir()
        if index >= 3:
            pictures, last_s = measure(grown)
            assert pictures >= index - 1 and last_s >= 2.0 * (index - 2)
    sink.close()
