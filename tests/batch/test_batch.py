"""`lowlat batch`: each video gets its result whole or not at all, and only once."""

import json
import os
import shutil
from pathlib import Path

import pytest
from batches import record, results, under_way

from lowlat.jobs.recordings import recordings
from lowlat.video.frames import SourceError
from lowlat.video.source import open_source

pytestmark = pytest.mark.usefixtures("one_thread", "here")


@pytest.fixture
def videos(tmp_path):
    for seed, name in enumerate(("a.mp4", "day 2/b.mkv", "day 2/c.mp4")):
        record(tmp_path / "in" / name, seed=seed)
    return tmp_path / "in"


@pytest.fixture
def batch(lowlat, weights, tmp_path):
    """Runs `lowlat batch` into `out`; gives the exit code, the report and what is on standard error."""

    def run(*words):
        code, printed, err = lowlat("batch", *words, "-o", tmp_path / "out", "--weights", weights, "--json")
        return code, json.loads(printed), err

    run.out = tmp_path / "out"
    return run


def test_every_video_gets_the_labels_that_segment_gives_it(batch, lowlat, weights, videos, tmp_path):
    code, report, _ = batch(videos)
    counts = {name: report[name] for name in ("videos", "labelled", "skipped", "failed", "frames", "interrupted")}
    assert code == 0
    assert counts == {"videos": 3, "labelled": 3, "skipped": 0, "failed": [], "frames": 18, "interrupted": False}
    for name in ("a.mp4", "day 2/b.mkv", "day 2/c.mp4"):
        alone = tmp_path / "alone" / name.replace(".", "-")
        alone.parent.mkdir(parents=True, exist_ok=True)
        words = ("--weights", weights, "--mode", "blocking", "--labels", "rle")
        assert lowlat("segment", videos / name, "-o", alone, *words)[0] == 0
        assert results(alone) == results(batch.out / Path(name).with_suffix(""))
        lines = results(alone)["labels.jsonl"].splitlines()
        assert len(lines) == 6 and len({line.partition(b'"runs"')[2] for line in lines}) > 1
    assert not under_way(batch.out)


def test_steadied_labels_are_those_of_segment_and_another_result(batch, lowlat, weights, tmp_path):
    record(tmp_path / "in.mp4")
    labelled = [batch(tmp_path / "in.mp4", *more)[1]["labelled"] for more in ((), ("--steady",), ("--steady",), ())]
    assert labelled == [1, 1, 0, 1]
    assert batch(tmp_path / "in.mp4", "--steady")[0] == 0
    words = ("--weights", weights, "--mode", "blocking", "--labels", "rle", "--steady")
    assert lowlat("segment", tmp_path / "in.mp4", "-o", tmp_path / "alone", *words)[0] == 0
    assert results(tmp_path / "alone") == results(batch.out / "in")


@pytest.mark.parametrize("place", ["in", "in/out"])
def test_results_beside_the_videos_are_no_videos(lowlat, weights, videos, tmp_path, place):
    words = ("batch", videos, "-o", tmp_path / place, "--weights", weights, "--write", "overlay", "--json")
    assert lowlat(*words)[0] == 0
    code, printed, _ = lowlat(*words)
    report = json.loads(printed)
    assert (code, report["videos"], report["skipped"]) == (0, 3, 3)


@pytest.mark.parametrize("write, files", [("grey", 7), ("palette", 7), ("overlay", 1)])
def test_results_are_written_in_the_form_that_is_asked_for(batch, tmp_path, write, files):
    record(tmp_path / "in.mp4")
    assert batch(tmp_path / "in.mp4", "--write", write)[0] == 0
    assert len(results(batch.out / "in")) == files
    if write == "overlay":
        with open_source(batch.out / "in" / "overlay.mp4") as source:
            assert len(list(source)) == 6


def test_what_is_there_already_is_skipped(batch, videos):
    batch(videos)
    before = {path: path.stat().st_mtime_ns for path in batch.out.rglob("*.jsonl")}
    code, report, _ = batch(videos)
    assert (code, report["labelled"], report["skipped"]) == (0, 0, 3)
    assert {path: path.stat().st_mtime_ns for path in batch.out.rglob("*.jsonl")} == before


def cut_labels(videos, out):
    path = out / "a" / "labels.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def lose_the_report(videos, out):
    """Makes the run look as if it had been killed between the two renames."""
    for path in (out / "a").iterdir():
        path.unlink()
    (out / "a").rmdir()


def record_anew(videos, out):
    record(videos / "a.mp4", seed=7)


@pytest.mark.parametrize("change", [cut_labels, lose_the_report, record_anew])
def test_a_video_whose_result_is_not_whole_or_not_of_it_is_labelled_again(batch, videos, change):
    batch(videos)
    before = results(batch.out)
    change(videos, batch.out)
    code, report, _ = batch(videos)
    assert (code, report["labelled"], report["skipped"]) == (0, 1, 2)
    assert (results(batch.out) == before) == (change is not record_anew)


def test_other_options_and_other_weights_label_all_again(batch, lowlat, videos, weights, tmp_path):
    batch(videos)
    assert batch(videos, "--max-frames", 3)[1]["labelled"] == 3
    assert batch(videos, "--max-frames", 3)[1]["labelled"] == 0
    assert len(results(batch.out)["a/labels.jsonl"].splitlines()) == 3
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-4] + b"\x00\x00\x80\x3f")
        assert batch(videos, "--max-frames", 3)[1]["labelled"] == 3
    finally:
        weights.write_bytes(before)


def test_a_damaged_video_fails_alone_and_is_listed(batch, videos):
    whole = (videos / "a.mp4").read_bytes()
    (videos / "bad.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "none.mp4").write_bytes(b"no video")
    code, report, err = batch(videos)
    assert (code, report["labelled"]) == (2, 3)
    assert [Path(one["input"]).name for one in report["failed"]] == ["bad.mp4", "none.mp4"]
    assert all(one["error"] for one in report["failed"])
    assert err.splitlines()[-1].startswith("lowlat: batch: expected 5 videos") and "bad.mp4" in err
    assert sorted(path.name for path in batch.out.iterdir()) == [".batch.lock", "a", "day 2"]


def test_what_a_dead_worker_has_left_is_removed(batch, videos):
    stale = batch.out / ".a.host-12.part"
    other = batch.out / ".a.b.host-12.part"
    for folder in (stale, other):
        folder.mkdir(parents=True)
        (folder / "labels.jsonl").touch()
    assert batch(videos)[0] == 0
    assert not stale.exists() and other.exists(), "other was of a video called a.b"


def test_a_place_that_holds_something_else_is_left_alone(batch, videos):
    mine = batch.out / "a" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    code, report, _ = batch(videos)
    assert (code, report["labelled"]) == (2, 2)
    assert "earlier result" in report["failed"][0]["error"] and mine.read_text() == "mine"


def test_what_lies_beside_a_result_and_what_other_runs_left_is_never_removed(batch, lowlat, weights, videos):
    batch(videos)
    (batch.out / "a" / "notes.txt").write_text("mine")
    run = batch.out / "day 2" / "b"
    shutil.rmtree(run)
    words = ("--weights", weights, "--report", run)
    assert lowlat("segment", videos / "a.mp4", "-o", run / "mine.mp4", *words)[0] == 0
    before = results(batch.out)
    code, report, _ = batch(videos, "--max-frames", 3)
    assert (code, report["labelled"], len(report["failed"])) == (2, 1, 2)
    after = results(batch.out)
    assert {name for name in before if before[name] != after.get(name)} == {"day 2/c/labels.jsonl"}


def test_a_run_that_dies_while_it_replaces_a_result_leaves_nothing_in_the_way(batch, videos, monkeypatch):
    from lowlat.jobs import one_video

    batch(videos / "a.mp4")
    real = one_video.shutil.rmtree

    def dying(path, **options):
        """Dies when the first file of the old result has been removed."""
        if "before" in path.name:
            (path / "report.json").unlink()
        elif not path.name.endswith(".part"):
            raise AssertionError("a result is removed under its own name")

    monkeypatch.setattr(one_video.shutil, "rmtree", dying)
    batch(videos / "a.mp4", "--max-frames", 3)
    monkeypatch.setattr(one_video.shutil, "rmtree", real)
    code, report, _ = batch(videos / "a.mp4", "--max-frames", 4)
    assert (code, report["labelled"]) == (0, 1)
    assert sorted(path.name for path in batch.out.iterdir()) == [".batch.lock", "a"]


def test_names_are_no_markup_of_the_terminal(lowlat, weights, tmp_path):
    name = 'it\'s "é" [\n2'
    record(tmp_path / "in" / "[" / f"x] {name}.mp4", 2)
    out = tmp_path / "[red] [" / "x]"
    code, printed, err = lowlat("batch", tmp_path / "in", "-o", out, "--weights", weights)
    assert code == 0, err
    assert "[red][/x]" in "".join(printed.split())
    assert [path.name for path in (out / "[").iterdir()] == [f"x] {name}"]


def test_a_video_that_is_still_written_to_gets_no_result(batch, videos, monkeypatch):
    from lowlat.jobs import one_video

    real = one_video.segment

    def growing(source, *rest, **options):
        report = real(source, *rest, **options)
        os.utime(source, ns=(1, 1))
        return report

    monkeypatch.setattr(one_video, "segment", growing)
    code, report, _ = batch(videos / "a.mp4")
    assert code == 2 and "meanwhile" in report["failed"][0]["error"] and not (batch.out / "a").exists()


def test_two_runs_never_share_a_folder(batch, videos):
    import fcntl

    batch.out.mkdir()
    with open(batch.out / ".batch.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, report, _ = batch(videos)
    assert code == 2 and "no other run" in report["error"]


def test_videos_are_named_by_what_was_given(tmp_path):
    for name in ("x/a.mp4", "x/y/a.mkv", "x/y/b.odd", "x/.hidden/a.mp4", "x/y/._a.mp4", "x/10.mp4", "x/9.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    x = tmp_path / "x"
    assert list(recordings([x])) == ["9", "10", "a", "y/a"]
    assert list(recordings([f"{x}/**/*.m*"])) == ["9", "10", "a", "y/a"]
    assert list(recordings([x / "y" / "a.mkv", f"{x}/y/*.odd"])) == ["a", "b"]
    assert list(recordings([x, x / "a.mp4"])) == ["9", "10", "a", "y/a"], "the same video twice is one"
    assert list(recordings([x / "y" / "._a.mp4"])) == ["._a"], "hidden, and named by itself"
    x.rename(tmp_path / "x [1]")
    assert list(recordings([f"{tmp_path}/x [1]/y/*.m*"])) == ["a"], "folders that are there stand for themselves"


@pytest.mark.parametrize(
    "names, words",
    [
        (["a/1.mp4", "b/1.mp4"], "names of their own"),
        (["1.mp4", "1.mkv"], "names of their own"),
        (["none.mp4"], "found none at"),
        (["rtsp://camera/live"], "found none at"),
        (["*.mov"], "found none at"),
        ([], "expected videos, got none"),
    ],
)
def test_videos_that_can_not_be_told_apart_or_are_not_there_are_refused(tmp_path, names, words):
    for name in ("a/1.mp4", "b/1.mp4", "1.mp4", "1.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=words):
        recordings([str(tmp_path / name) for name in names])


def test_a_result_never_lies_in_another(tmp_path):
    for name in ("1.mp4", "1/2.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match="beside each other"):
        recordings([tmp_path])


@pytest.mark.parametrize(
    "words",
    [
        ("--write", "gif"),
        ("--workers", "0"),
        ("--cores", "0"),
        ("--cores", "1000000"),
        ("--max-frames", "0"),
        ("--policy", "sometimes"),
        ("--device", "tpu"),
        ("--dtype", "int8"),
        ("--weights", "none.safetensors"),
    ],
)
def test_bad_options_are_told_before_any_video_is_begun(lowlat, videos, tmp_path, words):
    code, printed, err = lowlat("batch", videos, "-o", tmp_path / "out", *words)
    assert (code, printed) == (2, "") and err.count("\n") == 1 and words[1] in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["-", "file/out"])
def test_a_place_that_is_no_folder_is_refused(lowlat, videos, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, printed, err = lowlat("batch", videos, "-o", place)
    assert (code, printed) == (2, "") and err.count("\n") == 1 and "--output" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in"]
