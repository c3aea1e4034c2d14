"""How steady labels are: on maps made by hand, on videos beside the network itself, and by the command."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lowlat import models
from lowlat.cli import app
from lowlat.jobs.steadiness import Slivers, Steadiness, SteadinessFigures
from lowlat.lab.accuracy import evaluate_live, evaluate_video
from lowlat.lab.clip import evaluate_clip, live_policy
from lowlat.lab.data.street import Street
from lowlat.lab.recorded import LabelledVideo
from lowlat.lab.streaming import newest, run_live
from lowlat.lab.timing import Timing
from lowlat.lab.weights import save
from lowlat.schedule import Accumulated, Adaptive, Every, PerFrame
from lowlat.segmenter import prepare
from lowlat.video.frames import Timed, is_cut
from lowlat.video.sink import VideoSink
from lowlat.video.steady import Steady


def maps(*rows):
    return [np.array(row, np.uint8).reshape(2, 2) for row in rows]


def counted(shown, whole, cuts=()):
    steadiness = Steadiness()
    for index, (labels, per_frame) in enumerate(zip(shown, whole, strict=True)):
        steadiness.add(labels, per_frame, cut=index in cuts)
    return steadiness.figures()


def test_agreement_is_the_share_of_pixels_labelled_as_frame_by_frame():
    shown, whole = maps([0, 1, 2, 3], [0, 1, 2, 3]), maps([0, 1, 2, 3], [0, 0, 0, 3])
    assert counted(shown, whole).agreement_percent == 75


def test_extra_flicker_is_change_that_frame_by_frame_does_not_have():
    shown = maps([0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0])
    whole = maps([0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1])
    # Eight pixels could change: the first does, from frame 0 to 1. The second one changes in both.
    assert counted(shown, whole).extra_flicker_percent == 12.5
    assert counted(whole, shown).extra_flicker_percent == 37.5
    assert counted(whole, whole).extra_flicker_percent == 0


def test_neither_a_cut_nor_a_change_of_size_is_flicker():
    shown, whole = maps([0] * 4, [1] * 4, [1, 1, 1, 2]), maps([0] * 4, [0] * 4, [0] * 4)
    assert counted(shown, whole).extra_flicker_percent == 62.5
    assert counted(shown, whole, cuts=[1]).extra_flicker_percent == 25
    assert counted(shown[:1], whole[:1]) == SteadinessFigures(100, None, None, None, None, None)
    larger = np.ones((3, 3), np.uint8)
    assert counted([shown[0], larger], [whole[0], larger]).extra_flicker_percent is None


def test_label_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"in one shape, got \(2, 2\) and \(2, 3\); give both at the frame's size"):
        Steadiness().add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


def test_slivers_are_positions_of_the_grid_that_stand_alone():
    labels = np.zeros((20, 12), np.uint8)
    labels[8:12] = 1
    slivers = Slivers((5, 3))
    slivers.add(labels)
    # Three rows of three positions have one above and one below; the middle position stands alone.
    assert (slivers.row_percent, slivers.column_percent) == (pytest.approx(100 / 3, abs=1e-3), 0)
    labels[12:16] = 1
    slivers.add(labels)
    assert slivers.row_percent == pytest.approx(100 / 6, abs=1e-3), "two rows of a class are no sliver"
    turned = Slivers((3, 5))
    turned.add(np.ascontiguousarray(labels.T) * 0)
    labels[12:16] = 2
    turned.add(np.ascontiguousarray(labels.T))
    # Classes 0, 0, 1, 2, 0: both in the middle stand alone, whatever stands beside them.
    assert (turned.row_percent, turned.column_percent) == (0, pytest.approx(100 * 2 / 6, abs=1e-3))


def test_slivers_are_seen_at_any_size_of_the_frame_and_need_three_positions():
    for height in (36, 54, 63):
        labels = np.zeros((height, 40), np.uint8)
        labels[height * 4 // 9 : height * 5 // 9] = 1
        slivers = Slivers((9, 10))
        slivers.add(labels)
        assert slivers.row_percent == pytest.approx(100 / 7, abs=1e-3), height
    flat = Slivers((2, 10))
    flat.add(np.zeros((8, 40), np.uint8))
    assert (flat.row_percent, flat.column_percent) == (None, 0)


def test_another_scene_is_a_cut_and_the_same_one_moved_is_none():
    street = Street(size=(48, 64), frames=2, split="val")
    first, second = (street.image(index).permute(1, 2, 0).numpy() for index in (0, 1))
    assert not is_cut(first, second) and is_cut(first, 255 - first) and is_cut(first, second[:40])


@pytest.fixture(scope="module")
def network():
    network = models.load("lite")
    network.pixels = None
    return network


@pytest.fixture(scope="module")
def street():
    return Street(size=(96, 128), frames=12, split="val")


@pytest.fixture(scope="module")
def recorded(network, street):
    return LabelledVideo(network, street)


@pytest.fixture(scope="module")
def folder(street, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    for index in range(len(street)):
        Image.fromarray(street.image(index).permute(1, 2, 0).numpy()).save(path / f"{index}.png")
    return path


def by_definition(shown, whole):
    """Return the figures of whole videos, uint8 ``(frames, H, W)``, at a network that scores every fourth pixel."""
    changes, expected = shown[1:] != shown[:-1], whole[1:] != whole[:-1]
    figures = [np.mean(shown == whole), np.mean(changes & ~expected)]
    for labels in (shown[:, ::4, ::4], whole[:, ::4, ::4]):
        up, left = labels[:, 1:] != labels[:, :-1], labels[:, :, 1:] != labels[:, :, :-1]
        figures += [np.mean(up[:, 1:] & up[:, :-1]), np.mean(left[:, :, 1:] & left[:, :, :-1])]
    return [round(100 * float(figure), 3) for figure in figures]


def test_a_clip_is_measured_as_the_definitions_say(network, folder, recorded):
    report = evaluate_clip(network, folder, Every(4), delay=2)
    results = Timing(Every(4), delay=2).run(recorded, 12)
    expected = by_definition(np.stack([result.labels for result in results]), np.stack(recorded.per_frame))
    found = [report[name] for name in SteadinessFigures.__dataclass_fields__]
    assert found == pytest.approx(expected, abs=2e-3) and 50 < found[0] < 100 and found[1] > 0
    assert (report["frames"], report["key_frames"], report["cuts"]) == (12, 2, 0)
    assert report["mean_age"] == pytest.approx(sum(result.age for result in results) / 11, abs=1e-3)


def test_the_labelled_video_is_measured_alike_and_its_cuts_are_no_flicker(recorded):
    results = Timing(Every(4), delay=2).run(recorded, 12)
    shown, whole = np.stack([result.labels for result in results]), np.stack(recorded.per_frame)
    found = evaluate_video(recorded, policy="every", interval=4, delay=2).steadiness
    assert list(found.as_dict().values()) == by_definition(shown, whole)
    recorded.scenes = [range(5), range(5, 12)]
    try:
        split = recorded.steadiness(enumerate(shown))
    finally:
        recorded.scenes = [range(12)]
    extra = [np.mean((shown[i] != shown[i - 1]) & (whole[i] == whole[i - 1])) for i in range(1, 12) if i != 5]
    assert split.extra_flicker_percent == pytest.approx(100 * np.mean(extra), abs=2e-3)
    assert split.extra_flicker_percent != found.extra_flicker_percent


def test_steadied_labels_are_measured_in_place_of_the_networks_own(network, folder, street, recorded):
    results = Timing(Every(4), delay=2).run(recorded, 12, "grid")
    frames, steady = [image.permute(1, 2, 0).numpy() for image in recorded.images], Steady()
    shown = [steady(frame, result) for frame, result in zip(frames, results, strict=True)]
    expected = by_definition(np.stack(shown), np.stack(recorded.per_frame))
    found, own = (evaluate_clip(network, folder, Every(4), delay=2, steady=steadied) for steadied in (True, False))
    assert [found[name] for name in SteadinessFigures.__dataclass_fields__] == pytest.approx(expected, abs=2e-3)
    assert found["extra_flicker_percent"] < 0.95 * own["extra_flicker_percent"]
    labelled = evaluate_video(recorded, policy="every", interval=4, delay=2, steady=True)
    assert list(labelled.steadiness.as_dict().values()) == expected
    assert labelled.scheduled.miou == pytest.approx(recorded.score(enumerate(shown)).miou, abs=0.01)


def test_s_h_waited_for_on_every_frame_is_frame_by_frame(network, folder):
    report = evaluate_clip(network, folder, Every(1), delay=0, max_frames=4)
    assert (report["agreement_percent"], report["extra_flicker_percent"], report["frames"]) == (100, 0, 4)


def test_the_newest_frame_at_a_time():
    arrivals = [(10.0, 1), (20.0, 2), (30.0, 4)]
    assert [newest(arrivals, time, 10) for time in (9.9, 10, 19.9, 20, 30, 39.9, 40)] == [None, 1, 1, 2, 4, 4, None]
    assert newest([], 5.0, 10) is None


@pytest.mark.usefixtures("one_thread")
def test_a_live_run_answers_each_frame_or_drops_it(network, recorded, street):
    frames = [Timed(street.image(i).permute(1, 2, 0).contiguous().numpy(), i / 25, i) for i in range(12)]
    live = run_live(prepare(network), frames, 40, policy=PerFrame(), mode="blocking")
    indices = [answer.index for answer in live.answers]
    assert indices[0] == 0 and live.answers[0].current is None and indices == sorted(set(indices))
    assert len(indices) + live.summary.dropped == 12 and live.summary.frames == len(indices)
    for answer in live.answers:
        assert np.mean(answer.labels == recorded.per_frame[answer.index]) > 0.999
        assert answer.current is None or answer.index <= answer.current < 12


@pytest.mark.usefixtures("one_thread")
def test_the_labelled_video_live_is_scored_against_its_own_frames_and_the_time_at_which_labels_are_done(
    network, recorded
):
    report = evaluate_live(network, recorded, 40, Every(4))
    assert report["frames"] + report["dropped"] == 12 and report["fps"] == 40
    assert 0 < report["agreement_percent"] <= 100
    for run in ("low_latency", "frame_by_frame"):
        assert set(report[run]) == {"shown", "latency_ms", "frames_late", "miou_of_its_frame", "streaming_miou"}
        assert 0 <= report[run]["shown"] <= 11
    json.dumps(report, allow_nan=False)


def test_a_clips_policy_is_that_of_a_live_run(network):
    assert live_policy(network, "adaptive") == Adaptive(network.threshold)
    assert live_policy(network, "every") == Every(5) and live_policy(network, "every", 7) == Every(7)
    assert live_policy(network, "accumulated", threshold=0.4) == Accumulated(0.4)
    with pytest.raises(ValueError, match="--threshold with policy 'adaptive' on --video, got --interval 5"):
        live_policy(network, "adaptive", 5)


def lowlat(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.usefixtures("one_thread")
def test_the_command_takes_any_video(network, folder, tmp_path):
    save(network, tmp_path / "net.safetensors")
    words = ("--weights", tmp_path / "net.safetensors", "--max-frames", 5, "--fps", 40, "--json")
    done = lowlat("evaluate", "--video", folder, *words)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["working_size"] == {"clip": "128x96, images of 128x96"}
    clip = report["clip"]
    assert (clip["policy"], clip["threshold"], clip["delay"]) == ("adaptive", network.threshold, 3)
    assert (clip["frames"], clip["missing"]) == (5, []) and clip["live"]["frames"] + clip["live"]["dropped"] == 5
    assert {*SteadinessFigures.__dataclass_fields__} <= set(clip) & set(clip["live"]) and "steady" not in report
    done = lowlat("evaluate", "--video", folder, *words[:4], "--steady", "--json")
    assert json.loads(done.stdout)["steady"] is True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "expected --data or --video, got neither"),
        (("--video", "none.mp4"), "none.mp4"),
        (("--video", "{folder}", "--max-frames", 1), "expected --max-frames of at least 2, got 1"),
        (("--video", "{folder}", "--fps", 0), "expected --fps above 0, got 0.0"),
        (("--video", "{folder}", "--delay", -1), "a delay of at least 1 frame, got -1"),
        (("--video", "{folder}", "--policy", "now"), "got 'now'"),
        (("--video", "{single}"), "a video of at least 2 frames, got '{single}' with 1"),
        (("--video", "-"), "expected a recording, got '-'"),
        (("--data", "street:64x48,frames=4", "--no-video", "--fps", 5), "expected --fps 5 with a video to run live"),
        (("--data", "street:64x48,frames=4", "--max-frames", 5), "expected --max-frames 5 with --video"),
        (("--video", "{folder}", "--steady", "--fps", 5), "expected --steady in replay, got it with --fps 5"),
        (("--data", "street:64x48,frames=4", "--no-video", "--steady"), "expected --steady with a video"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(folder, tmp_path, words, told):
    Image.open(folder / "0.png").save(tmp_path / "0.png")
    places = {"folder": folder, "single": tmp_path}
    done = lowlat("evaluate", *(str(word).format(**places) for word in words))
    assert done.exit_code == 2 and done.stdout == ""
    assert told.format(**places) in done.stderr.strip().splitlines()[-1]


def test_accuracy_by_frames_that_nobody_labelled_is_none(network):
    found = run_live(prepare(network), [Timed(np.zeros((32, 32, 3), np.uint8), 0.0, i) for i in range(3)], 40)
    figures = found.streaming([None] * 3, network.classes)
    assert figures["miou_of_its_frame"] is None and figures["streaming_miou"] is None


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("live", [(), ("--fps", 50)])
def test_a_video_that_breaks_off_names_the_frames_that_can_be_measured(tmp_path, network, live):
    save(network, tmp_path / "net.safetensors")
    with VideoSink(tmp_path / "clip.mkv", (64, 48), 25) as sink:
        for index in range(40):
            sink.write(np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8))
    whole = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(whole[: len(whole) // 4])
    words = ("evaluate", "--video", tmp_path / "clip.mkv", "--weights", tmp_path / "net.safetensors", *live)
    refused = lowlat(*words)
    told = re.search(r"for more than the (\d+) frames that can be read; --max-frames (\d+) gives", refused.stderr)
    assert refused.exit_code == 2 and told[1] == told[2]
    found = lowlat(*words, "--max-frames", told[2], "--json")
    assert found.exit_code == 0 and json.loads(found.stdout)["clip"]["frames"] == int(told[1])
