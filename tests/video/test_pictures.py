import json

import numpy as np
import pytest
from PIL import Image

from lowlat.runtime.result import FrameResult, Span
from lowlat.video import rate
from lowlat.video.overlay import LAMPS, TEXT, Overlay, clock_time
from lowlat.video.plot import latency_figure, write_latency_plot
from lowlat.video.trace import trace_events, write_trace
from lowlat.video.writer import BackgroundWriter

CLASSES = tuple(f"class {index}" for index in range(11))
PALETTE = tuple((index * 20, 255 - index * 20, 128) for index in range(11))


def result(index=0, labels=None, latency=50.0, **more):
    return FrameResult(index, labels, more.pop("age", 0), available_ms=100.0, emitted_ms=100.0 + latency, **more)


@pytest.mark.parametrize("size", [(640, 272), (320, 240), (33, 21)])
@pytest.mark.parametrize("beside", [False, True])
def test_the_overlay_has_the_size_it_says_and_changes_nothing(size, beside):
    width, height = size
    overlay = Overlay(CLASSES, PALETTE, size, beside=beside, full_ms=400, full_name="whole network")
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = np.full((height, width), 3, np.uint8)
    before = frame.copy()
    drawn = overlay.draw(frame, result(labels=labels))
    assert drawn.dtype == np.uint8 and drawn.shape == (overlay.size[1], overlay.size[0], 3)
    assert np.array_equal(frame, before)
    if beside:
        assert np.array_equal(drawn[:height, :width], frame)


def test_the_segmentation_is_blended_over_the_frame():
    overlay = Overlay(CLASSES, PALETTE, (64, 48), alpha=0.5)
    drawn = overlay.draw(np.full((48, 64, 3), 100, np.uint8), result(labels=np.full((48, 64), 2, np.uint8)))
    assert drawn[24, 32] == pytest.approx((100 + np.array(PALETTE[2])) / 2, abs=1)


@pytest.mark.parametrize("size", [(640, 272), (320, 240)])
def test_other_labels_are_drawn_in_the_second_picture_under_their_title(size):
    width, height = size
    overlay = Overlay(CLASSES, PALETTE, size, beside=True, titles=("before", "after"), alpha=0.5)
    frame = np.full((height, width, 3), 100, np.uint8)
    drawn = overlay.draw(frame, result(labels=np.full((height, width), 2, np.uint8)), np.full_like(frame[..., 0], 7))
    right, down = overlay._offset
    assert drawn[height // 2, width // 2] == pytest.approx((100 + np.array(PALETTE[7])) / 2, abs=1)
    assert drawn[down + height // 2, right + width // 2] == pytest.approx((100 + np.array(PALETTE[2])) / 2, abs=1)
    for left, top in ((0, 0), (right, down)):
        assert (drawn[top : top + 30, left : left + 60] == TEXT).all(-1).any()
    with pytest.raises(ValueError, match="beside=False; give both labels at the frame's size"):
        Overlay(CLASSES, PALETTE, size).draw(frame, result(labels=frame[..., 0]), frame[..., 0])


def test_key_frames_landings_and_degraded_frames_light_their_lamps():
    overlay = Overlay(CLASSES, PALETTE, (640, 272))
    frame, labels = np.zeros((272, 640, 3), np.uint8), np.full((272, 640), 200, np.uint8)

    def lit(**more):
        status = overlay.draw(frame, result(labels=labels, **more))[272:300].reshape(-1, 3)
        return {name for name, colour in LAMPS.items() if (status == colour).all(1).any()}

    assert lit() == set()
    assert lit(key=True) == {"KEY"}
    assert lit(landed=4) == {"S_h LANDED"}
    assert lit(degraded=True) == {"DEGRADED"}


@pytest.mark.parametrize("width", [130, 180, 252, 300, 360, 520])
@pytest.mark.parametrize("name", LAMPS)
def test_nothing_is_drawn_over_a_lamp_of_a_narrow_picture(name, width):
    def pixels(width):
        overlay = Overlay(CLASSES, PALETTE, (width, 100))
        state = {"KEY": {"key": True}, "S_h LANDED": {"landed": 4}, "DEGRADED": {"degraded": True}}[name]
        shown = result(12345, np.full((100, width), 200, np.uint8), 1234.0, age=12, time_s=3599.99, **state)
        drawn = overlay.draw(np.zeros((100, width, 3), np.uint8), shown)
        assert drawn.shape == (overlay.size[1], overlay.size[0], 3)
        # The frame around a key frame's picture has its lamp's colour too.
        return (drawn[100:] == LAMPS[name]).all(-1).sum()

    assert pixels(width) == pytest.approx(pixels(519), rel=0.05) and pixels(519) > 200


@pytest.mark.parametrize("size", [(640, 272), (320, 240)])
def test_the_overlay_tells_the_time_in_the_source(size):
    overlay = Overlay(CLASSES, PALETTE, size)
    frame, labels = np.zeros((*size[::-1], 3), np.uint8), np.zeros(size[::-1], np.uint8)
    drawn = [overlay.draw(frame, result(labels=labels, time_s=time_s)) for time_s in (None, 1.0, 2.0)]
    assert (drawn[0] != drawn[1]).any() and (drawn[1] != drawn[2]).any()


@pytest.mark.parametrize(
    "time_s, words", [(0.0, "0:00.00"), (2.28, "0:02.28"), (59.999, "1:00.00"), (3723.456, "1:02:03.46")]
)
def test_a_time_is_told_as_on_a_clock(time_s, words):
    assert clock_time(time_s) == words


def test_the_overlay_refuses_other_sizes():
    with pytest.raises(ValueError, match="expected a frame"):
        Overlay(CLASSES, PALETTE, (64, 48)).draw(
            np.zeros((48, 60, 3), np.uint8), result(labels=np.zeros((48, 64), np.uint8))
        )


def runs():
    whole = [result(i, latency=300 + i, key=True, startup=i == 0) for i in range(20)]
    fast = [
        result(i, latency=60 + i, key=i % 5 == 0, landed=i - 3 if i % 5 == 3 else None, startup=i == 0)
        for i in range(20)
    ]
    return whole, fast


def test_the_plot_shows_both_runs_and_their_marks(tmp_path):
    axes = latency_figure(*runs()).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["frame by frame, whole network"].get_xdata()) == list(range(1, 20))
    assert list(lines["low-latency schedule"].get_ydata()) == [60 + i for i in range(1, 20)]
    assert list(lines["key frame (3)"].get_xdata()) == [5, 10, 15]
    assert list(lines["$S_h$ landed (4)"].get_xdata()) == [3, 8, 13, 18]
    write_latency_plot(tmp_path / "latency.png", *runs(), "clip")
    with Image.open(tmp_path / "latency.png") as image:
        assert image.format == "PNG" and image.width > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["latency.png"]


def test_the_trace_has_one_named_track_a_part(tmp_path):
    spans = [
        Span("S_l", "lower", 7, 1.0, 2.5),
        Span("propagation", "propagate", 7, 2.5, 3.0),
        Span("S_h", "higher", 5, 0.5, 9.0),
    ]
    write_trace(tmp_path / "trace.json", spans)
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == trace_events(spans)
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert sorted(names.values()) == ["S_h", "S_l", "propagation"]
    complete = [event for event in events if event["ph"] == "X"]
    assert [(names[e["tid"]], e["name"], e["ts"], e["dur"], e["args"]["frame"]) for e in complete] == [
        ("S_h", "higher", 500, 8500, 5),
        ("S_l", "lower", 1000, 1500, 7),
        ("propagation", "propagate", 2500, 500, 7),
    ]


def test_paced_frames_keep_the_rhythm_and_never_bunch_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(rate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(rate.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    times = []
    for index in rate.at_rate(range(5), 10):
        times.append(round(now[0], 6))
        now[0] += 0.25 if index == 1 else 0.03
    assert times == [0.0, 0.1, 0.35, 0.45, 0.55]
    with pytest.raises(ValueError, match="fps"):
        rate.at_rate([], 0)


def test_the_writer_writes_in_order_and_hands_its_error_on():
    written = []
    writer = BackgroundWriter(lambda *item: written.append(item))
    for index in range(50):
        writer.put(index, "x")
    writer.close()
    writer.close()
    assert written == [(index, "x") for index in range(50)]

    def fail(item):
        raise OSError("disk full")

    writer = BackgroundWriter(fail)
    writer.put(1)
    with pytest.raises(OSError, match="disk full"):
        writer.close()
