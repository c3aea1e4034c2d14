import functools
import http.server
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from lowlat.runtime import FrameBuffer
from lowlat.video.source import Source, SourceError, open_source


def check_one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message
    assert "expected" in message and "got" in message or "found" in message
    for word in words:
        assert word in message


def test_a_file_gives_its_frames_in_order_with_its_facts(make_clip, levels):
    with open_source(make_clip()) as source:
        assert (source.size, source.fps, source.frames, source.live) == ((64, 48), Fraction(25), 20, False)
        frames = list(source)
    assert all(frame.dtype == np.uint8 and frame.shape == (48, 64, 3) for frame in frames)
    assert levels(frames) == list(range(20))


def test_resize_scales_every_frame(make_clip, levels):
    with open_source(make_clip(), resize=(32, 16)) as source:
        assert source.size == (32, 16)
        frames = list(source)
    assert {frame.shape for frame in frames} == {(16, 32, 3)}
    assert levels(frames) == list(range(20))


def test_resize_must_be_two_sizes(make_clip):
    with pytest.raises(ValueError, match="resize"):
        open_source(make_clip(), resize=(0, 16))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(SourceError) as error:
        open_source(tmp_path / "none.mp4")
    check_one_line(error, "none.mp4", "check the path")


@pytest.mark.parametrize("name", ["text.mp4", "text.txt"])
def test_a_file_that_is_no_video_says_so(tmp_path, name):
    (tmp_path / name).write_text("not a video\n" * 200)
    with pytest.raises(SourceError) as error:
        open_source(tmp_path / name)
    check_one_line(error, "expected a video file", name)


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError) as error:
        open_source(tmp_path / "empty.mp4")
    check_one_line(error, "empty.mp4")


def test_a_file_cut_before_its_index_says_so(make_clip):
    path = make_clip()
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SourceError) as error:
        open_source(path)
    check_one_line(error, "is it whole")


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("cut.mp4", "h264", {"movflags": "faststart"}),
        ("cut.mkv", "h264", {}),
        ("cut.avi", "mpeg4", {}),
    ],
)
def test_a_truncated_file_gives_what_can_be_decoded_then_the_error(make_clip, levels, name, codec, options):
    path = make_clip(name, frames=50, codec=codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames = []
    with pytest.raises(SourceError) as error:
        with open_source(path) as source:
            for frame in source:
                frames.append(frame)
    check_one_line(error, "truncated", f"the {len(frames)} frames")
    assert 0 < len(frames) < 50
    # The last ones before the cut may lack frames they were predicted from.
    told = levels(frames)
    assert told == sorted(told)
    assert told[:2] == [0, 1]


def test_images_come_in_natural_order(tmp_path, levels):
    for index in (10, 2, 1, 0):
        Image.new("RGB", (40, 30), (index * 5,) * 3).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    with open_source(tmp_path) as source:
        assert (source.size, source.frames, source.live) == ((40, 30), 4, False)
        assert levels(source) == [0, 1, 2, 10]


def test_grey_and_transparent_images_come_as_rgb(tmp_path):
    Image.new("L", (8, 6), 9).save(tmp_path / "1.png")
    Image.new("RGBA", (8, 6), (9, 9, 9, 128)).save(tmp_path / "2.png")
    with open_source(tmp_path) as source:
        assert [frame.shape for frame in source] == [(6, 8, 3)] * 2


@pytest.mark.parametrize("name", ["1.png", "1.tif", "1.pgm"])
def test_greys_of_16_bits_become_8_and_not_white(tmp_path, name):
    greys = np.array([[0, 255, 256, 32768], [40000, 51200, 65279, 65535]], np.uint16)
    Image.fromarray(greys).save(tmp_path / name)
    with open_source(tmp_path) as source:
        (frame,) = source
    assert np.array_equal(frame, np.repeat(greys[..., None] // 256, 3, axis=2))


def test_greys_of_16_bits_are_turned_as_the_camera_was_held(tmp_path):
    image, exif = Image.fromarray(np.full((6, 8), 51200, np.uint16)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.png", exif=exif)
    with open_source(tmp_path) as source:
        assert source.size == (6, 8) and {*next(iter(source)).flat} == {200}


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_greys_of_32_bits_are_refused(tmp_path, kind):
    Image.fromarray(np.ones((6, 8), kind)).save(tmp_path / "1.tif")
    with pytest.raises(SourceError) as error:
        open_source(tmp_path)
    check_one_line(error, "1.tif", "32 bits", "save it with 8 or 16")


def test_a_folder_without_images_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceError) as error:
        open_source(tmp_path)
    check_one_line(error, "expected images", "found none")


def test_an_image_that_is_none_says_so_in_its_turn(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    with open_source(tmp_path) as source:
        frames = iter(source)
        next(frames)
        with pytest.raises(SourceError) as error:
            next(frames)
    check_one_line(error, "2.png")


def test_images_of_two_sizes_say_so_unless_scaled(tmp_path):
    for index, side in enumerate((8, 12)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{index}.png")
    with open_source(tmp_path) as source, pytest.raises(SourceError) as error:
        list(source)
    check_one_line(error, "8x8", "12x12")
    with open_source(tmp_path, resize=(8, 8)) as source:
        assert len(list(source)) == 2


def test_a_camera_that_is_not_there_says_so():
    with pytest.raises(SourceError) as error:
        open_source("97")
    check_one_line(error, "camera 97")


@pytest.mark.parametrize("address", ["rtsp://127.0.0.1:9/live", "http://127.0.0.1:9/clip.mp4"])
def test_an_address_that_does_not_answer_says_so(address):
    with pytest.raises(SourceError) as error:
        open_source(address)
    check_one_line(error, address)


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send_header(self, name, value):
            # A live stream says no length.
            if name != "Content-Length" or not self.path.endswith(".ts"):
                super().send_header(name, value)

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_video_comes_over_http(make_clip, server, levels):
    make_clip(options={"movflags": "faststart"})
    with open_source(f"{server}/clip.mp4") as source:
        assert source.frames == 20 and not source.live
        assert levels(source) == list(range(20))


def test_a_live_stream_that_breaks_off_gives_every_frame_first(make_clip, server, levels):
    """The decoder keeps the last frame until it is told that no more come."""
    make_clip("live.ts", codec="mpeg2video")
    with open_source(f"{server}/live.ts") as source, pytest.raises(SourceError) as error:
        list(source)
    check_one_line(error, "live.ts", "it broke off", "the 20 frames")


def test_an_address_without_the_file_says_so(server):
    with pytest.raises(SourceError) as error:
        open_source(f"{server}/none.mp4")
    check_one_line(error, "none.mp4")


def test_a_size_that_changes_on_the_way_says_so(make_clip, tmp_path):
    joined = tmp_path / "joined.ts"
    parts = [make_clip(f"{side}.ts", frames=5, size=(side, 48)) for side in (64, 96)]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_source(joined) as source, pytest.raises(SourceError) as error:
        list(source)
    check_one_line(error, "64x48", "96x48", "give a size")


def test_a_closed_source_may_be_closed_again(make_clip):
    source = open_source(make_clip())
    assert isinstance(source, Source)
    source.close()
    source.close()


@pytest.mark.parametrize("read", [0, 3, 20])
def test_reading_on_after_a_source_is_closed_says_so(make_clip, read):
    source = open_source(make_clip())
    frames = iter(source)
    for _ in range(read):
        next(frames)
    source.close()
    for reader in (frames, iter(source)):
        with pytest.raises(SourceError) as error:
            next(reader)
        check_one_line(error, "clip.mp4", "closed", "open it again")


def test_a_source_closed_under_its_capture_thread_ends_it(make_clip):
    with FrameBuffer("wait") as buffer:
        with open_source(make_clip()) as source:
            buffer.capture(source)
            buffer.get()
        with pytest.raises(SourceError, match="closed"):
            for _ in buffer:
                pass
        assert buffer.close()


def test_a_closed_source_still_tells_its_facts(make_clip):
    """FFmpeg's own are gone with the container: asking for them would crash."""
    source = open_source(make_clip())
    source.close()
    assert (source.fps, source.steady_fps, source.size) == (25, 25, (64, 48))


def test_an_empty_name_is_not_the_folder_at_hand(tmp_path, monkeypatch):
    """Such a name is what a shell variable that was never set gives."""
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="got an empty one"):
        open_source("")
    assert len(list(open_source("."))) == 1
