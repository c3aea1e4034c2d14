"""Time from source to result: what the commands write bears the times of what they read."""

import json

import numpy as np
import pytest
from PIL import Image
from timed_clips import SIZE, STEADY, VARYING, picture, spoil, times_of, write_clip

from lowlat.video.sink import VideoSink
from lowlat.video.source import open_source


@pytest.mark.parametrize(
    "name, codec, suffix",
    [("in.mp4", "h264", ".mp4"), ("in.mkv", "h264", ".mp4"), ("in.webm", "libvpx", ".mkv"), ("in.mp4", "h264", ".mov")],
)
def test_a_video_is_shown_as_its_source(lowlat, segmenter, tmp_path, name, codec, suffix):
    out = tmp_path / f"out{suffix}"
    assert lowlat("segment", write_clip(tmp_path / name, VARYING, codec=codec), "-o", out)[0] == 0
    assert times_of(out) == pytest.approx(VARYING, abs=0.002)


def test_a_rate_for_a_timed_file_is_a_pace_and_leaves_its_times(lowlat, segmenter, tmp_path):
    out = tmp_path / "out.mp4"
    assert lowlat("segment", write_clip(tmp_path / "in.mp4", VARYING), "-o", out, "--fps", 500)[0] == 0
    assert times_of(out) == pytest.approx(VARYING, abs=0.002)


def test_a_constant_rate_is_had_for_the_asking(lowlat, segmenter, tmp_path):
    out = tmp_path / "out.mp4"
    clip = write_clip(tmp_path / "in.mp4", VARYING)
    assert lowlat("segment", clip, "-o", out, "--constant-rate")[0] == 0
    times = times_of(out)
    assert times == pytest.approx([index / 25 for index in range(len(times))], abs=1e-4)
    assert times[-1] == pytest.approx(VARYING[-1], abs=0.04)


@pytest.mark.parametrize("rate", [5, 12.5])
def test_a_rate_for_a_folder_is_the_rate_of_its_video(lowlat, segmenter, tmp_path, rate):
    (tmp_path / "in").mkdir()
    for index in range(8):
        Image.fromarray(picture(index)).save(tmp_path / "in" / f"{index}.png")
    out = tmp_path / "out.mp4"
    assert lowlat("segment", tmp_path / "in", "-o", out, "--fps", rate)[0] == 0
    assert times_of(out) == pytest.approx([index / rate for index in range(8)], abs=1e-4)
    with open_source(out) as source:
        assert source.fps == rate


def test_dropped_frames_leave_their_time(lowlat, segmenter, tmp_path):
    out = tmp_path / "out.mp4"
    clip = write_clip(tmp_path / "in.mp4", VARYING)
    code, printed, _ = lowlat("segment", clip, "-o", out, "--overload", "drop-oldest", "--json")
    report = json.loads(printed)
    times = times_of(out)
    assert code == 0 and len(times) == report["frames"] and report["frames"] + report["dropped"] == len(VARYING)
    for time_s in times:
        assert min(abs(time_s - own) for own in VARYING) < 0.002


@pytest.mark.parametrize("words, streams", [((), 1), (("--no-audio",), 0)])
def test_the_sound_of_a_file_is_kept_unless_refused(lowlat, segmenter, tmp_path, words, streams):
    import av

    out = tmp_path / "out.mp4"
    clip = write_clip(tmp_path / "in.mp4", sound="aac", seconds=1.0)
    assert lowlat("segment", clip, "-o", out, *words)[0] == 0
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == streams
    if streams:
        assert times_of(out, "audio") == pytest.approx(times_of(clip, "audio"), abs=0.001)


def test_sound_that_is_left_out_is_told(lowlat, segmenter, tmp_path):
    clip = write_clip(tmp_path / "in.mov", sound="pcm_mulaw")
    code, _, err = lowlat("segment", clip, "-o", tmp_path / "out.mp4")
    assert code == 0 and "lowlat: the sound is left out: .mp4 can't hold pcm_mulaw" in err


def test_damaged_frames_leave_their_numbers_and_are_told(lowlat, segmenter, tmp_path):
    clip = spoil(write_clip(tmp_path / "in.mp4"), [10, 11, 12])
    code, printed, err = lowlat("segment", clip, "-o", tmp_path / "out", "--json")
    assert code == 2 and "missing: 10 to 12" in err.splitlines()[-1]
    assert json.loads(printed)["missing"] == [10, 11, 12]
    numbers = [int(path.stem) for path in sorted((tmp_path / "out").glob("*.png"))]
    assert numbers == [index for index in range(20) if index not in (10, 11, 12)]
    # The label of a frame is its grey level's class: ten levels a class, eleven classes.
    for number in numbers:
        assert {*np.asarray(Image.open(tmp_path / "out" / f"{number:06d}.png")).flat} <= {
            number % 11,
            (number - 1) % 11,
        }


def test_a_demo_keeps_what_a_damaged_clip_gives(lowlat, segmenter, tmp_path):
    clip, out = spoil(write_clip(tmp_path / "in.mp4"), [10, 11, 12]), tmp_path / "out"
    code, _, err = lowlat("demo", clip, "-o", out, "--fps", 500)
    assert code == 2 and err.splitlines()[-1].count("missing: 10 to 12") == 1
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["latency.png", "overlay.mp4", "overlay.png", "report.html", "report.json", "trace.json"]
    )
    report = json.loads((out / "report.json").read_text())
    kept = [index for index in range(20) if index not in (10, 11, 12)]
    assert report["missing"] == [10, 11, 12] and [frame["index"] for frame in report["frames"]] == kept
    assert [frame["time_s"] for frame in report["frames"]] == pytest.approx([index / 25 for index in kept])
    assert times_of(out / "overlay.mp4") == pytest.approx([index / 25 for index in kept], abs=1e-4)
    spans = [event for event in json.loads((out / "trace.json").read_text())["traceEvents"] if event["ph"] == "X"]
    assert spans and all(span["args"]["time_s"] == pytest.approx(span["args"]["frame"] / 25) for span in spans)


def test_a_demo_reads_no_frame_beyond_those_asked_for(lowlat, segmenter, tmp_path):
    """The seventh frame is of another size, which reading it would tell: decoders lose the one before."""
    parts = [
        write_clip(tmp_path / f"{side}.ts", STEADY[:7], size=(side, SIZE[1]), codec="mpeg2video") for side in (64, 96)
    ]
    clip = tmp_path / "clip.ts"
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    code, _, err = lowlat("demo", clip, "-o", tmp_path / "out", "--fps", 500, "--max-frames", 6)
    assert code == 0, err
    assert len(times_of(tmp_path / "out" / "overlay.mp4")) == 6


def test_a_full_disk_ends_with_code_2_and_keeps_what_fits(lowlat, segmenter, tmp_path, monkeypatch):
    encode, count = VideoSink._encode, []

    def filling(self, frame, ticks):
        count.append(ticks)
        if len(count) == 13:
            raise self._kept(OSError(28, "No space left on device"))
        encode(self, frame, ticks)

    clip = write_clip(tmp_path / "in.mp4")
    monkeypatch.setattr(VideoSink, "_encode", filling)
    out = tmp_path / "out.mp4"
    code, _, err = lowlat("segment", clip, "-o", out)
    told = err.splitlines()[-1]
    assert code == 2 and "No space left on device" in told
    assert f"its first {len(times_of(out))} pictures are kept" in told and len(times_of(out)) > 0
