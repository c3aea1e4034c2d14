"""Every frame has the time and the number that its source gives it."""

import socket
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from timed_clips import STEADY, VARYING, number_of, spoil, write_clip

from lowlat.runtime import Captured, FrameBuffer
from lowlat.video import container
from lowlat.video.frames import Timed
from lowlat.video.places import Numbering, Times, listed
from lowlat.video.source import SourceError, open_source


def read(path, **options):
    """Times, indices and numbers told by the pictures; and the source."""
    with open_source(path, **options) as source:
        got = list(source.timed())
    return [t.time_s for t in got], [t.index for t in got], [number_of(t.frame) for t in got], source


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("a.mp4", "h264", {}),
        ("a.mkv", "h264", {"bf": "2"}),
        ("a.webm", "libvpx", {}),
        ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("a.webm", "libvpx-vp9", {"cpu-used": "8"}),
        ("a.ts", "mpeg2video", {}),
    ],
)
def test_frames_bear_the_times_of_their_container(tmp_path, name, codec, options):
    path = write_clip(tmp_path / name, VARYING if codec != "mpeg2video" else STEADY, codec=codec, options=options)
    times, indices, told, source = read(path)
    assert times == pytest.approx(VARYING if codec != "mpeg2video" else STEADY, abs=0.002)
    assert indices == told == list(range(len(times)))
    assert source.missing == []


def test_a_video_that_starts_late_in_its_container_starts_at_0(tmp_path):
    times, indices, _, _ = read(write_clip(tmp_path / "late.mkv", [5 + time_s for time_s in VARYING]))
    assert times == pytest.approx(VARYING, abs=0.002) and indices[0] == 0


@pytest.mark.parametrize("lost", [[0], [0, 1, 5], [3, 4, 5], [18, 19]])
@pytest.mark.parametrize("name, codec", [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.avi", "mjpeg")])
def test_frames_that_cannot_be_decoded_leave_gaps(tmp_path, name, codec, lost):
    path = spoil(write_clip(tmp_path / name, codec=codec), lost)
    with open_source(path) as source:
        got = []
        with pytest.raises(SourceError) as error:
            for timed in source.timed():
                got.append(timed)
    assert [timed.index for timed in got] == [number for number in range(20) if number not in lost]
    assert [number_of(timed.frame) for timed in got] == [timed.index for timed in got]
    assert source.missing == lost and listed(lost) in str(error.value)
    if name == "a.mp4":
        assert [timed.time_s for timed in got] == pytest.approx([timed.index / 25 for timed in got])


def test_gaps_are_where_they_are_among_frames_shown_in_another_order(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [index / 25 for index in range(24)], gop=8, options={"bf": "2"})
    whole = read(path)
    assert whole[1] == whole[2] == list(range(24))


def test_a_recording_joined_on_its_way_starts_with_its_first_frame(tmp_path):
    """A broadcast begins anywhere: what comes before the first key frame is no loss."""
    path = write_clip(tmp_path / "a.ts", gop=5, options={"bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        position = next(p.pos for number, p in enumerate(container.demux(video=0)) if number == 2)
    data = path.read_bytes()
    # The tables that say what is in the file, then the file from the third frame on.
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: 188 * 3] + data[position:])
    times, indices, told, source = read(cut)
    assert (times[0], indices[0], source.missing) == (0.0, 0, [])
    assert told == list(range(5, 20)) and indices == list(range(15))


def test_vp8_frames_that_are_never_shown_have_no_number(tmp_path):
    """They are there for others to be predicted from: a bit of their first byte says so."""
    path = write_clip(tmp_path / "a.webm", codec="libvpx")
    hidden = spoil(path, [4, 11], lambda packet: bytes([packet[0] & ~0x10]) + packet[1:])
    times, indices, told, source = read(hidden)
    assert len(times) == 18 and indices == list(range(18)) and source.missing == []


def test_a_folder_is_timed_by_its_rate(tmp_path):
    for index in range(4):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{index}.png")
    with open_source(tmp_path) as source:
        assert source.untimed and source.fps == 25
        source.fps = Fraction(5)
        assert [timed.time_s for timed in source.timed()] == pytest.approx([0, 0.2, 0.4, 0.6])


def test_a_file_that_holds_no_times_is_timed_by_its_rate(tmp_path):
    path = write_clip(tmp_path / "a.h264", options={"bf": "0"})
    with open_source(path) as source:
        assert source.untimed
        source.fps = Fraction(10)
        assert [timed.time_s for timed in source.timed()] == pytest.approx([index / 10 for index in range(20)])


def jpeg(index):
    import io

    file = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), index * 10, np.uint8)).save(file, "jpeg")
    return file.getvalue()


def test_a_camera_over_http_is_timed_by_arrival(monkeypatch):
    """FFmpeg stamps such frames 1 / 25 s apart, whenever they come."""
    now, arrived = [100.0], [0.0, 0.2, 0.4, 1.4, 1.6]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection = listener.accept()[0]
        connection.recv(4096)
        connection.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
            + b"".join(
                b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
                for data in map(jpeg, range(len(arrived)))
            )
            + b"--b--\r\n"
        )
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    waits = iter(arrived)

    def clock():
        return now[0] + next(waits, arrived[-1])

    monkeypatch.setattr(container.ContainerSource, "_arrival", staticmethod(clock))
    source = container.ContainerSource(
        f"http://127.0.0.1:{listener.getsockname()[1]}/", "camera", "a video at an address", live=False, timeout=(5, 5)
    )
    got = []
    with listener, source, pytest.raises(SourceError):
        for timed in source.timed():
            got.append(timed)
        raise SourceError("the end")
    assert source.live
    assert [timed.time_s for timed in got] == pytest.approx(arrived)
    assert [number_of(timed.frame) for timed in got] == list(range(5))


def test_times_rise_whatever_the_stamps_do():
    times = Times()
    got = [times.at(stamp, 0.04) for stamp in (0.0, 0.04, 0.04, 0.03, 0.12, 90.0, 0.0, 0.04)]
    assert got == pytest.approx([0.0, 0.04, 0.041, 0.042, 0.12, 90.0, 90.04, 90.08])


def test_a_buffer_keeps_times_and_numbers_of_frames_that_have_them():
    buffer = FrameBuffer("drop-oldest", first=7)
    for timed in (Timed("a", 0.0, 0), Timed("b", 0.04, 1), Timed("c", 2.28, 5)):
        buffer.put(timed)
    captured = buffer.get()
    assert (captured.frame, captured.index, captured.time_s) == ("c", 5, 2.28)
    buffer.put("plain")
    assert buffer.get()[::2] == (10, "plain") and Captured(0, 0.0, "x").time_s is None


def test_numbers_are_listed_in_words():
    assert listed([3, 10, 11, 12, 14, 15]) == "3, 10 to 12, 14 to 15"
    assert listed([]) == "" and Numbering(joined=False).missing == []
