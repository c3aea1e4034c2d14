"""Live sources that die and come back, from servers on this machine."""

import functools
import http.server
import itertools
import math
import threading

import numpy as np
import pytest
from local_cameras import SIZE, HttpCamera, Refuse, RtspCamera, Show
from PIL import Image

from lowlat.video.frames import Source, SourceError, Timed
from lowlat.video.reconnect import LONGEST_PAUSE_S, STEADY_S, ReconnectingSource
from lowlat.video.source import open_source

CAMERAS = pytest.mark.parametrize("camera_of", [HttpCamera, RtspCamera])
OTHER_SIZE = (96, 64)


def lines_of(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line]


@CAMERAS
def test_a_camera_that_dies_is_opened_again_and_time_goes_on(camera_of, capsys):
    with camera_of([Show(12), Refuse(), Show(12, OTHER_SIZE)]) as camera:
        with open_source(camera.address, reconnect_s=math.inf) as source:
            assert source.live and source.frames is None and source.size == SIZE
            frames = []
            for timed in source.timed():
                frames.append(timed)
                if timed.frame.shape[1::-1] == OTHER_SIZE and len(frames) >= 18:
                    break
        assert camera.connections == 3
    before = [timed for timed in frames if timed.frame.shape == (48, 64, 3)]
    after = [timed for timed in frames if timed.frame.shape == (64, 96, 3)]
    assert len(before) >= 11 and before + after == frames
    assert [timed.index for timed in frames] == list(range(len(frames)))
    times = [timed.time_s for timed in frames]
    assert times == sorted(times)
    # Half a second and a second are waited before the two attempts.
    (gap,) = source.gaps
    assert 1.5 <= gap.seconds < 10
    assert gap.seconds == pytest.approx(after[0].time_s - before[-1].time_s, abs=0.2)
    assert (gap.start_s, gap.end_s) == (before[-1].time_s, after[0].time_s)
    lost, back = lines_of(capsys)
    assert lost.startswith(f"lowlat: {camera.address} is lost after ") and "trying again" in lost
    assert back.startswith(f"lowlat: {camera.address} is back after ") and "96x64 now, 64x48 at first" in back


@pytest.mark.sample(3)
@CAMERAS
def test_a_camera_that_falls_silent_is_opened_again(camera_of, capsys):
    with camera_of([Show(12, silent=True), Show(12)]) as camera:
        with open_source(camera.address, reconnect_s=math.inf, stall_s=1.0) as source:
            indices = [timed.index for timed, _ in zip(source.timed(), range(18), strict=False)]
        assert camera.connections == 2
    assert indices == list(range(18))
    assert "no answer within 1 s" in lines_of(capsys)[0]
    assert [round(gap.seconds) >= 1 for gap in source.gaps] == [True]


def test_a_camera_that_sends_what_is_no_picture_is_opened_again(capsys):
    with HttpCamera([Show(12, noisy=True), Show(12)]) as camera:
        with open_source(camera.address, reconnect_s=math.inf, stall_s=1.0) as source:
            assert len(list(itertools.islice(source, 18))) == 18
        assert camera.connections == 2
    assert "no frame within 1 s that can be decoded" in lines_of(capsys)[0]


@CAMERAS
def test_a_camera_that_dies_is_an_error_where_nobody_waits_for_it(camera_of, capsys):
    """An RTSP server that hangs up looks to FFmpeg like the end of a file."""
    frames = []
    with camera_of([Show(12), Show(12)]) as camera:
        with pytest.raises(SourceError) as error, open_source(camera.address) as source:
            for timed in source.timed():
                frames.append(timed)
        assert camera.connections == 1
    assert camera.address in str(error.value) and f"{len(frames)} frames" in str(error.value)
    assert "--reconnect SECONDS" in str(error.value) and "\n" not in str(error.value)
    assert len(frames) >= 11 and source.gaps == [] and lines_of(capsys) == []


@CAMERAS
def test_a_camera_that_stays_away_is_given_up(camera_of, capsys):
    with camera_of([Show(12)]) as camera:
        with pytest.raises(SourceError) as error, open_source(camera.address, reconnect_s=0.7) as source:
            for _ in source:
                pass
        assert camera.connections == 3
    for words in (camera.address, "within 0.7 s", "raise --reconnect", "Server returned"):
        assert words in str(error.value)
    assert [gap.end_s for gap in source.gaps] == [None] and 0.7 <= source.gaps[0].seconds < 10
    (lost,) = lines_of(capsys)
    assert lost.endswith("trying again for 0.7 s")


def test_a_recording_at_an_address_ends(tmp_path, capsys):
    """What says how long it is, in seconds or in bytes, is whole when that much has come."""
    Image.new("RGB", SIZE, (90, 90, 90)).save(tmp_path / "snapshot.jpg")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open_source(f"http://127.0.0.1:{server.server_port}/snapshot.jpg", reconnect_s=math.inf) as source:
            assert len(list(itertools.islice(source, 5))) == 1
        server.shutdown()
    assert lines_of(capsys) == []


class Scripted(Source):
    """Frames at given times of a scripted clock, then an end, an error or the end of all."""

    name, fps, size, frames, live = "rtsp://camera/live", 25, SIZE, None, True

    def __init__(self, times, clock, *, error=None, whole=False, live=True, missing=(), lasts=0.0):
        self._times, self._clock, self._error, self._lasts = times, clock, error, lasts
        self.whole, self.live, self.missing, self.closed = whole, live, list(missing), False

    def timed(self):
        present = [index for index in range(len(self._times) + len(self.missing)) if index not in self.missing]
        for index, time_s in zip(present, self._times, strict=True):
            self._clock.now += time_s - (self._times[present.index(index) - 1] if present.index(index) else 0.0)
            yield Timed(np.zeros((*SIZE[::-1], 3), np.uint8), time_s, index)
        self._clock.now += self._lasts
        if self._error is not None:
            raise self._error

    def close(self):
        self.closed = True


class Clock:
    """A clock that only the script and the pauses move; it notes the pauses."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        return False


@pytest.fixture
def scripted():
    """Makes a source of a list of connections, each an error of opening or arguments of `Scripted`."""

    def make(*connections, **options):
        clock, lines, script = Clock(), [], iter(connections)

        def opening():
            line = next(script)
            if isinstance(line, Exception):
                raise line
            times, *rest = line
            return Scripted(times, clock, **(rest[0] if rest else {}))

        source = ReconnectingSource(opening, say=lines.append, clock=clock, **options)
        source._closing.wait = clock.wait
        return source, clock, lines

    return make


def test_times_go_on_by_the_clock_across_gaps(scripted):
    refused = SourceError("no", "connection refused")
    source, _, lines = scripted(
        ((0.0, 0.1, 0.2), {"error": SourceError("bad", "it broke off"), "lasts": 2.0}),
        refused,
        ((0.0, 0.5),),
        ((0.0,), {"whole": True}),
    )
    frames = list(source.timed())
    # 0.2 s, silent for 2 s, then pauses of 0.5 s and 1 s; behind the second loss one of 2 s.
    assert [round(timed.time_s, 6) for timed in frames] == [0.0, 0.1, 0.2, 3.7, 4.2, 6.2]
    assert [timed.index for timed in frames] == list(range(6))
    assert [gap.as_dict() for gap in source.gaps] == [
        {"from": 0.2, "to": 3.7, "seconds": 3.5, "reason": "it broke off"},
        {"from": 4.2, "to": 6.2, "seconds": 2.0, "reason": "it ended"},
    ]
    assert len(lines) == 4 and not source.away


def test_indices_leave_room_for_frames_missing_before_a_gap(scripted):
    source, *_ = scripted(
        ((0.0, 0.1), {"missing": (1, 3)}),
        ((0.0, 0.1), {"missing": (0,), "whole": True}),
    )
    assert [timed.index for timed in source.timed()] == [0, 2, 5, 6]
    assert source.missing == [1, 3, 4]


def test_pauses_double_up_to_the_longest_and_begin_anew_behind_a_steady_connection(scripted):
    refused = SourceError("no")
    source, clock, _ = scripted(
        ((0.0, 1.0),),
        *[refused] * 5,
        ((0.0, 1.0),),
        ((0.0, STEADY_S + 1),),
        ((0.0,), {"whole": True}),
    )
    list(source.timed())
    assert clock.pauses == [0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S, 0.5]


def test_the_last_attempt_is_at_the_end_of_the_time_given(scripted):
    source, clock, _ = scripted(((0.0, 1.0),), *[SourceError("no", "refused")] * 9, reconnect_s=4.0)
    with pytest.raises(SourceError, match=r"within 4 s.*refused.*raise --reconnect"):
        list(source.timed())
    assert clock.pauses == [0.5, 1.0, 2.0, 0.5] and source.away
    given_up = {"from": 1.0, "to": None, "seconds": 4.0, "reason": "it ended"}
    assert source.gaps[0].as_dict() == given_up
    # Frames that wait for the network may hold the end of a run up.
    clock.now += 60
    assert source.gaps[0].as_dict() == given_up


def test_a_broadcast_that_is_over_is_not_played_again_from_its_recording(scripted):
    source, _, lines = scripted(((0.0, 0.1),), ((0.0, 0.1), {"live": False}))
    assert len(list(source.timed())) == 2
    assert lines[-1].endswith("has ended: what is there is its recording")


def test_a_source_closed_while_it_is_waited_for_ends_the_waiting(capsys):
    with RtspCamera([Show(12)]) as camera:
        source, ended = open_source(camera.address, reconnect_s=math.inf), []

        def read():
            with pytest.raises(SourceError, match="closed"):
                list(source)
            ended.append(True)

        reader = threading.Thread(target=read)
        reader.start()
        while not source.away:
            pass
        source.close()
        reader.join(10)
    assert ended == [True]


@pytest.mark.parametrize("option", [{"reconnect_s": -1}, {"reconnect_s": math.nan}, {"stall_s": 0}])
def test_patience_that_is_none_says_so(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        open_source("rtsp://127.0.0.1:9/live", **option)
