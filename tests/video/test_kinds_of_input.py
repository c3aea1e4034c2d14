"""Videos of kinds that cameras, browsers and editors leave: joined, of several sizes, without stamps, in odd files."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from timed_clips import SIZE, STEADY, number_of, picture, times_of, write_clip

from lowlat.video.labels import LabelSink
from lowlat.video.sink import VideoSink
from lowlat.video.source import SourceError, open_source

OTHER_SIZE = (96, 64)


def read(path, **options):
    """Times, indices, numbers told by the pictures, sizes; and the source."""
    with open_source(path, **options) as source:
        got = list(source.timed())
    sizes = [timed.frame.shape[1::-1] for timed in got]
    return [t.time_s for t in got], [t.index for t in got], [number_of(t.frame) for t in got], sizes, source


@pytest.fixture
def joined(tmp_path):
    """Recordings joined end to end, the times of each beginning where those of the one before began."""

    def make(*parts, suffix=".ts", **facts):
        path = tmp_path / f"joined{suffix}"
        clips = [write_clip(tmp_path / f"{n}{suffix}", **{**facts, **part}) for n, part in enumerate(parts)]
        path.write_bytes(b"".join(clip.read_bytes() for clip in clips))
        return path

    return make


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}])
def test_joined_recordings_follow_each_other(joined, options):
    times, indices, told, _, source = read(joined({}, {}, {}, gop=8, options=options))
    assert times == pytest.approx([index / 25 for index in range(60)], abs=1e-4)
    assert indices == list(range(60)) and told == list(range(20)) * 3
    assert source.missing == []


def test_the_sound_of_joined_recordings_follows_their_pictures(joined, tmp_path):
    path, out = joined({}, {}, sound="mp2", seconds=0.8, codec="mpeg2video"), tmp_path / "out.mp4"
    with open_source(path) as source, VideoSink(out, SIZE, 25, audio=source.audio) as sink:
        for timed in source.timed():
            sink.write(timed.frame, timed.time_s)
    heard = times_of(out, "audio")
    with (
        open_source(tmp_path / "0.ts") as source,
        VideoSink(tmp_path / "alone.mp4", SIZE, 25, audio=source.audio) as sink,
    ):
        for timed in source.timed():
            sink.write(timed.frame, timed.time_s)
    alone = times_of(tmp_path / "alone.mp4", "audio")
    assert heard[: len(alone)] == pytest.approx(alone, abs=0.002)
    # What of the first part's sound is longer than its pictures gives way to nothing of the second's but that.
    assert heard[-1] == pytest.approx(0.8 + alone[-1], abs=0.002)
    assert max(np.diff(heard)) < 0.06


@pytest.mark.parametrize("suffix", [".ts", ".h264"])
def test_frames_of_another_size_are_handed_out_if_asked(joined, suffix):
    path = joined({}, {"size": OTHER_SIZE}, suffix=suffix, options={"bf": "0"})
    times, indices, _, sizes, source = read(path, any_size=True)
    assert sizes == [SIZE] * 20 + [OTHER_SIZE] * 20 and source.size == SIZE
    assert times == pytest.approx([index / 25 for index in range(40)], abs=1e-4) and indices == list(range(40))
    with pytest.raises(SourceError, match="one size in .*64x48 and, at frame 20, 96x64"):
        read(path)


def test_images_of_several_sizes_are_handed_out_if_asked(tmp_path):
    for number, size in enumerate((SIZE, OTHER_SIZE, SIZE)):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert read(tmp_path, any_size=True)[3] == [SIZE, OTHER_SIZE, SIZE]
    with pytest.raises(SourceError, match="images of one size"):
        read(tmp_path)


def test_frames_without_a_stamp_among_others_come_a_period_apart(tmp_path):
    """FFmpeg gives none to frames that a Matroska file has before its zero."""
    path = tmp_path / "early.mkv"
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"bf": "0"}
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            frame.pts, frame.time_base = index * 40 - 200, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    times, indices, told, *_ = read(path)
    assert times == pytest.approx(STEADY, abs=0.002) and indices == told == list(range(20))


def test_a_preview_picture_on_a_track_of_its_own_is_not_the_video(tmp_path):
    """Some cameras put one before the video."""
    clip = write_clip(tmp_path / "clip.mp4", options={"bf": "0"})
    path = tmp_path / "preview.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w") as container:
        preview = container.add_stream("mjpeg", rate=25)
        preview.width, preview.height, preview.pix_fmt = 32, 32, "yuvj420p"
        video = container.add_stream_from_template(source.streams.video[0])
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        container.mux(preview.encode(frame))
        container.mux(preview.encode(None))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 32, "this test makes another file than it says"
    times, _, told, sizes, _ = read(path)
    assert sizes == [SIZE] * 20 and told == list(range(20)) and times == pytest.approx(STEADY)


def test_an_animated_webp_keeps_its_times(tmp_path):
    path, lasts = tmp_path / "a.webp", [100, 100, 500, 40, 40]
    first, *rest = [Image.fromarray(picture(index)) for index in range(5)]
    first.save(path, save_all=True, append_images=rest, duration=lasts, lossless=True)
    times, indices, told, _, source = read(path)
    assert times == pytest.approx([0, 0.1, 0.2, 0.7, 0.74]) and indices == told == list(range(5))
    assert source.frames == 5 and not source.untimed and source.fps == 10


def test_pictures_of_a_webp_that_last_no_time_follow_each_other_all_the_same(tmp_path):
    path = tmp_path / "a.webp"
    first, *rest = [Image.fromarray(picture(index)) for index in range(5)]
    first.save(path, save_all=True, append_images=rest, duration=[100, 0, 100, 0, 40], lossless=True)
    assert read(path)[0] == pytest.approx([0, 0.1, 0.101, 0.2, 0.201])


@pytest.mark.parametrize("suffix", ["webp", "tif"])
def test_pictures_of_one_file_are_turned_as_the_camera_was_held(tmp_path, suffix):
    path, turned = tmp_path / f"a.{suffix}", Image.Exif()
    turned[0x0112] = 6
    pictures = [Image.fromarray(picture(index, (48, 64))) for index in range(2)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], exif=turned)
    assert read(path)[3] == [(64, 48)] * 2


def test_every_page_of_a_tiff_is_a_frame(tmp_path):
    path = tmp_path / "pages.tif"
    first, *rest = [Image.fromarray(picture(index)) for index in range(4)]
    first.save(path, save_all=True, append_images=rest)
    times, indices, told, _, source = read(path)
    assert indices == told == list(range(4)) and source.untimed and source.frames == 4
    assert times == pytest.approx([0, 0.04, 0.08, 0.12])


def test_a_page_that_cannot_be_read_ends_the_run_in_words(tmp_path):
    path = tmp_path / "pages.tif"
    pages = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (48, 64, 3), np.uint8)) for n in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
    with pytest.raises(SourceError, match="pages.tif"):
        read(path)


@pytest.mark.parametrize("rows, said", [(720, False), (720, True), (480, False)])
def test_colours_that_nothing_is_said_of_are_those_of_the_videos_height(tmp_path, rows, said):
    """Players take them so; FFmpeg takes BT.601 for every video."""
    path, colour = tmp_path / "a.mkv", (230, 30, 30)
    matrix = av.video.reformatter.Colorspace.ITU709 if rows >= 720 else av.video.reformatter.Colorspace.ITU601
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, rows, "yuv420p"
        if said:
            stream.codec_context.colorspace = 1
        frame = av.VideoFrame.from_ndarray(np.full((rows, 64, 3), colour, np.uint8), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_source(path) as source:
        (got,) = source
    assert got.reshape(-1, 3).mean(0) == pytest.approx(colour, abs=5)


@pytest.mark.parametrize("name", ["12:30.mp4", "a:b.mkv", "-a %d?#.mp4"])
def test_videos_may_have_names_that_mean_something_to_ffmpeg(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with VideoSink(name, SIZE, 25) as sink:
        for index in range(3):
            sink.write(picture(index))
    assert read(name)[2] == [0, 1, 2] and [path.name for path in tmp_path.iterdir()] == [name]


def test_label_maps_in_folders_below_are_of_an_earlier_run_too(tmp_path):
    facts = {"palette": [(0, 0, 0)], "names": ["road"], "stems": ["left/1"]}
    with LabelSink(tmp_path / "out", **facts) as sink:
        sink.write(np.zeros((4, 4), np.uint8), 0)
    with pytest.raises(ValueError, match="with classes.json in it"):
        LabelSink(tmp_path / "out", **facts)
