import json

import numpy as np
import pytest
from PIL import Image

from lowlat import Steady, VideoSegmenter, models
from lowlat.classes import Classes
from lowlat.lab.data.street import Street
from lowlat.lab.weights import save
from lowlat.schedule import Every
from lowlat.video.source import SourceError, open_source


def test_a_video_comes_out_with_every_frame(lowlat, segmenter, clip, tmp_path):
    out = tmp_path / "out.mp4"
    code, printed, _ = lowlat("segment", clip, "-o", out, "--json")
    report = json.loads(printed)
    assert code == 0
    figures = {name: report[name] for name in ("frames", "dropped", "key_frames", "landings", "interrupted")}
    assert figures == {"frames": 20, "dropped": 0, "key_frames": 3, "landings": 3, "interrupted": False}
    assert 0 <= report["median_ms"] <= report["p99_ms"] <= report["max_ms"]
    with open_source(out) as source:
        assert source.size[0] == 64 and source.size[1] > 48
        assert (report["width"], report["height"], report["video_size"]) == (64, 48, list(source.size))
        assert len(list(source)) == 20


def test_the_size_that_is_told_of_a_video_is_the_files(lowlat, segmenter, clip, tmp_path):
    out = tmp_path / "out.mp4"
    code, printed, _ = lowlat("segment", clip, "-o", out, "--resize", "33x25")
    with open_source(out) as source:
        assert f", 33x25, to {out}, {source.size[0]}x{source.size[1]} with its legend" in printed
        assert code == 0 and source.size[0] == 34
    report = json.loads(lowlat("segment", clip, "-o", tmp_path / "labels", "--json")[1])
    assert report["video_size"] is None


def test_a_video_that_is_replaced_is_told_so(lowlat, segmenter, clip, tmp_path):
    out = tmp_path / "out.mp4"
    assert "replaced" not in lowlat("segment", clip, "-o", out)[2]
    code, _, error = lowlat("segment", clip, "-o", out)
    assert code == 0 and error.endswith(f"lowlat: segment: {out} was there before, and has been replaced\n")
    before = out.read_bytes()
    segmenter.broken[0] = KeyboardInterrupt()
    assert "replaced" not in lowlat("segment", clip, "-o", out)[2] and out.read_bytes() == before


def test_a_folder_of_label_maps_comes_out(lowlat, segmenter, clip, tmp_path):
    code, printed, _ = lowlat("segment", clip, "-o", tmp_path / "out", "--max-frames", 12)
    assert code == 0 and "frames answered" in printed and "12" in printed
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == [f"{index:06d}.png" for index in range(12)]
    labels = np.array(Image.open(tmp_path / "out" / names[5]))
    assert labels.shape == (48, 64) and set(np.unique(labels)) <= {4, 5}


def test_steadied_labels_are_written_in_place_of_the_networks_own(lowlat, tmp_path):
    street, frames = Street(size=(96, 128), frames=8, split="val"), tmp_path / "frames"
    frames.mkdir()
    for index in range(len(street)):
        Image.fromarray(street.image(index).permute(1, 2, 0).numpy()).save(frames / f"{index}.png")
    words = ("--mode", "blocking", "--policy", "every", "--interval", 3)
    written = {}
    for name, more in (("own", ()), ("steady", ("--steady", "--report", tmp_path / "run"))):
        code, _, error = lowlat("segment", frames, "-o", tmp_path / name, *words, *more)
        assert code == 0, error
        written[name] = [np.array(Image.open(tmp_path / name / f"{index}.png")) for index in range(8)]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["settings"]["steady"] is True
    assert any(not np.array_equal(*both) for both in zip(*written.values(), strict=True))
    steady = Steady()
    with open_source(frames) as source, VideoSegmenter(policy=Every(3), mode="blocking") as segmenter:
        for index, frame in enumerate(source):
            result = segmenter.step(frame, scores=True)
            assert np.array_equal(written["own"][index], result.labels)
            assert np.array_equal(written["steady"][index], steady(frame, result))


def test_a_paced_file_waits_and_drops_nothing(lowlat, segmenter, clip, tmp_path):
    code, printed, _ = lowlat("segment", clip, "-o", tmp_path / "out", "--fps", 1000, "--json")
    report = json.loads(printed)
    assert (code, report["frames"], report["dropped"]) == (0, 20, 0)


def test_a_rate_for_a_live_source_is_refused(refused, segmenter, clip, tmp_path, monkeypatch):
    import lowlat.jobs.segment as job

    def live(spec, resize=None, **_):
        source = open_source(spec, resize=resize)
        source.live = True
        return source

    monkeypatch.setattr(job, "open_source", live)
    assert "--fps with a file" in refused("segment", clip, "-o", tmp_path / "out.mp4", "--fps", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_every_frame_of_a_dropping_run_is_answered_or_counted(lowlat, segmenter, clip, tmp_path):
    code, printed, _ = lowlat("segment", clip, "-o", tmp_path / "out", "--overload", "drop-newest", "--json")
    report = json.loads(printed)
    assert code == 0
    assert report["frames"] + report["dropped"] == 20


@pytest.mark.parametrize("overload", [(), ("--overload", "wait")])
def test_an_interrupted_run_leaves_what_was_written_playing(lowlat, segmenter, clip, tmp_path, overload):
    segmenter.broken[8] = KeyboardInterrupt()
    out = tmp_path / "out.mp4"
    code, printed, err = lowlat("segment", clip, "-o", out, "--json", *overload)
    assert code == 130
    assert err.endswith("lowlat: interrupted\n")
    report = json.loads(printed)
    assert report["interrupted"] and report["frames"] == 8
    with open_source(out) as source:
        assert len(list(source)) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


def test_a_run_interrupted_before_its_first_labels_leaves_nothing(lowlat, segmenter, clip, tmp_path):
    segmenter.broken[0] = KeyboardInterrupt()
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_source_that_breaks_leaves_what_was_read(lowlat, segmenter, clip, tmp_path, monkeypatch):
    import lowlat.jobs.segment as job

    def breaking(spec, resize=None, **_):
        source = open_source(spec, resize=resize)
        whole = type(source).timed

        def frames(self):
            for index, frame in enumerate(whole(self)):
                if index == 6:
                    raise SourceError("expected a whole video file, got a truncated one")
                yield frame

        source.__class__ = type("Breaking", (type(source),), {"timed": frames})
        return source

    monkeypatch.setattr(job, "open_source", breaking)
    code, _, err = lowlat("segment", clip, "-o", tmp_path / "out.mp4")
    assert code == 2
    assert err.endswith("lowlat: expected a whole video file, got a truncated one\n")
    with open_source(tmp_path / "out.mp4") as source:
        assert len(list(source)) == 6


def test_a_fault_ends_with_code_1_and_a_playable_output(lowlat, segmenter, clip, tmp_path):
    segmenter.broken[9] = RuntimeError("no memory")
    code, _, err = lowlat("segment", clip, "-o", tmp_path / "out.mp4")
    assert code == 1 and err.endswith("lowlat: no memory\n")
    with open_source(tmp_path / "out.mp4") as source:
        assert len(list(source)) == 9


def test_a_network_of_other_classes_is_shown_by_its_own_names_and_colours(lowlat, clip, tmp_path):
    network = models.build("lite", classes=3)
    network.legend = Classes(("grass", "path", "sky"), ((10, 200, 10), (90, 80, 70), (0, 0, 255)))
    save(network, tmp_path / "park.safetensors")
    assert models.load(tmp_path / "park.safetensors").legend == network.legend
    out = tmp_path / "out"
    code, _, _ = lowlat("segment", clip, "-o", out, "--weights", tmp_path / "park.safetensors", "--max-frames", 3)
    assert code == 0
    image = Image.open(out / "000001.png")
    assert image.getpalette()[:9] == [part for colour in network.legend.palette for part in colour]
    assert np.array(image).max() < 3


def test_ctrl_c_again_while_the_output_is_closed_is_reported_with_what_was_done(
    lowlat, segmenter, clip, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    segmenter.broken[11] = KeyboardInterrupt()
    monkeypatch.setattr("lowlat.video.sink.finish", interrupted)
    out = tmp_path / "out.mp4"
    code, printed, _ = lowlat("segment", clip, "-o", out, "--json")
    report = json.loads(printed)
    assert code == 130 and (report["interrupted"], report["error"], report["frames"]) == (True, None, 11)
    with open_source(out) as source:
        assert len(list(source)) == 11


def test_a_report_that_finds_no_room_is_told_beside_what_was_done(lowlat, segmenter, clip, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lowlat.jobs.report.live.write_trace", full)
    words = ("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "report", "--json")
    code, printed, err = lowlat(*words)
    report = json.loads(printed)
    assert code == 2 and report["frames"] == 20 and "No space left" in report["error"]
    assert err.splitlines()[-1] == f"lowlat: {report['error']}"


@pytest.mark.parametrize("rate", ["inf", "nan", "0", "-5"])
def test_a_rate_of_images_that_is_none_is_refused(refused, segmenter, tmp_path, rate):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "in" / "0.png")
    assert "frames a second" in refused("segment", tmp_path / "in", "-o", tmp_path / "out", "--fps", rate)
