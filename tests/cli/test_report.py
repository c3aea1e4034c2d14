"""The page of a run: its figures are those of report.json, its names are no markup, it stands alone."""

import errno
import json
from urllib.parse import unquote

import numpy as np
import pytest
from report_pages import Page

import lowlat.jobs.report.live as live
import lowlat.jobs.report.page as page_module
import lowlat.jobs.report.record as record
from lowlat.jobs.report.kinds import KINDS
from lowlat.jobs.report.page import embedded, run_page, write_run
from lowlat.jobs.report.plot import ticks
from lowlat.jobs.report.record import policy_words
from lowlat.schedule.policies import POLICIES
from lowlat.video.sink import VideoSink
from lowlat.video.source import open_source

NASTY = """ä "b" <script>alert('x')<!-- & $data 1.mp4"""


@pytest.fixture
def run(lowlat, segmenter, clip, tmp_path):
    """The folder of a demo of 20 frames."""
    assert lowlat("demo", clip, "-o", tmp_path / "run", "--fps", 500)[0] == 0
    return tmp_path / "run"


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def assert_figures_agree(folder):
    report, cells = report_of(folder), Page(folder / "report.html").cells
    for figure in KINDS[report["kind"]].all:
        assert cells[figure.name] == figure.words(figure.of(report)), figure.name
    for name, value in report["settings"].items():
        assert cells[name.replace("_", " ")] == page_module.plain(value)
    assert cells["torch"] == report["machine"]["torch"] and cells["processor"] == report["machine"]["processor"]
    return report


def test_the_page_of_a_demo_has_the_figures_of_its_report(run):
    report = assert_figures_agree(run)
    assert (report["kind"], report["settings"]["weights"], report["settings"]["fps"]) == ("demo", "lite", 500.0)
    page, fast = Page(run / "report.html"), report["low_latency"]
    for name, ms in (("median", fast["median_ms"]), ("p99", fast["p99_ms"]), ("longest", fast["max_ms"])):
        assert page.cells[f"{name} latency"] == f"{ms:.1f} ms"
    assert page.data["series"][0]["latency_ms"] == [frame["low_latency_ms"] for frame in report["frames"]]
    assert page.data["series"][1]["latency_ms"] == [frame["frame_by_frame_ms"] for frame in report["frames"]]
    assert page.data["lines"][0]["ms"] == report["frame_by_frame"]["median_ms"]
    assert ("a", "href", "trace.json") in page.addresses and ("a", "href", "report.json") in page.addresses


def test_the_curve_is_there_without_a_script(run):
    """19 frames behind start-up, each with a point of its own: the first is moved to, 18 lines follow."""
    static = (run / "report.html").read_text().partition('<script type="application/json"')[0]
    curve = static.partition('<path class="curve s0" d="')[2].partition('"')[0]
    latencies = [frame["low_latency_ms"] for frame in report_of(run)["frames"][1:]]
    points = [point.split(" ") for point in curve.removeprefix("M").removesuffix("h0").split("L")]
    assert [int(index) for index, _ in points] == list(range(1, 20))
    assert [-float(y) for _, y in points] == pytest.approx(latencies, rel=1e-4)


def test_the_page_loads_nothing_from_elsewhere(run):
    page = Page(run / "report.html")
    assert page.outside == []
    assert "default-src 'none'" in page.text and len(page.scripts) == 2
    links = [value for tag, name, value in page.addresses if tag == "a" and "//" in value]
    assert links == ["https://ui.perfetto.dev"]


def test_names_are_no_markup(lowlat, segmenter, clip, tmp_path):
    """Names stand in the page's title, heading and tables, in the video's address, and in the script's data."""
    clip, out = clip.rename(tmp_path / NASTY), tmp_path / "out <b> 'x'"
    assert lowlat("demo", clip, "-o", out, "--fps", 500)[0] == 0
    page = Page(out / "report.html")
    assert len(page.scripts) == 2 and page.cells["video"] == NASTY
    assert page.words.count(NASTY) == 2, "the heading and the table"
    assert "<script>alert" not in page.text
    segmented = tmp_path / NASTY.replace("1", "2")
    assert lowlat("segment", clip, "-o", segmented, "--report", out / "ö?#%41")[0] == 0
    page = Page(out / "ö?#%41" / "report.html")
    assert len(page.scripts) == 2 and page.cells["source"].endswith(NASTY)
    (link,) = [value for tag, _, value in page.addresses if tag == "a" and value.endswith(".mp4")]
    assert (out / "ö?#%41" / unquote(link)).resolve() == segmented.resolve()


def test_data_cannot_end_its_script():
    value = {"name": "</script><script>alert(1)</script>", "text": "<!-- & \u2028"}
    text = embedded(value)
    assert json.loads(text) == value and not {"<", ">", "&", "\u2028"} & set(text)


def test_a_name_that_is_no_text_does_not_stop_the_page(run):
    report = {**report_of(run), "video": "clip-\udce4.mp4"}
    write_run(run, report)
    assert "clip-?.mp4" in Page(run / "report.html").text


def test_a_large_video_stays_beside_the_page(run, monkeypatch):
    report = report_of(run)
    assert any(value.startswith("data:video/mp4;base64,") for _, name, value in Page(run / "report.html").addresses)
    size = (run / "overlay.mp4").stat().st_size
    monkeypatch.setattr(page_module, "MOST_EMBEDDED", size)
    assert 'src="data:video/mp4' in run_page(report, run)
    monkeypatch.setattr(page_module, "MOST_EMBEDDED", size - 1)
    assert 'src="overlay.mp4"' in run_page(report, run) and "Keep both together" in run_page(report, run)
    (run / "overlay.mp4").unlink()
    assert "found none" in run_page(report, run)


def test_the_page_appears_whole_or_not_at_all(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (run / "report.html").write_text("from before")
    before = sorted(path.name for path in run.iterdir())
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_run(run, report_of(run))
    assert sorted(path.name for path in run.iterdir()) == before
    assert (run / "report.html").read_text() == "from before"


def test_what_went_wrong_stands_first(run):
    report = {**report_of(run), "error": "it broke & off", "missing": list(range(3, 40)), "frames_left_out": 7}
    text = run_page(report, run)
    first = text.partition('class="cards"')[0]
    assert "it broke &amp; off" in first and "37 frames" in first and "3, 4, 5" in first and "7 before them" in first
    assert "Before you read on" not in run_page(report_of(run), run)


def test_dropped_frames_are_gaps_that_no_decoder_made(run):
    report = report_of(run)
    report["frames"] = [frame for frame in report["frames"] if frame["index"] not in (5, 6, 9)]
    report["missing"] = [6]
    write_run(run, report)
    assert Page(run / "report.html").data["series"][0]["dropped"] == [5, 9]
    assert "dropped: 2" in (run / "report.html").read_text()


def test_segment_leaves_a_page_of_its_run(lowlat, segmenter, clip, tmp_path):
    out, folder = tmp_path / "out.mp4", tmp_path / "deep" / "run"
    code, printed, _ = lowlat("segment", clip, "-o", out, "--report", folder)
    assert code == 0 and "report.html" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "trace.json"]
    report = assert_figures_agree(folder)
    assert (report["kind"], report["overlay"], report["frames"]) == ("segment", "../../out.mp4", 20)
    assert [row["index"] for row in report["per_frame"]] == list(range(20))
    assert report["per_frame"][3]["time_s"] == pytest.approx(3 / 25)
    assert report["key_frames"] == sum(row["key"] for row in report["per_frame"] if not row["startup"])
    spans = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert {span["name"] for span in spans if span["ph"] == "X"} >= {"lower", "propagate"}


def test_brackets_in_names_are_no_markup_of_the_terminal(lowlat, segmenter, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    clip = clip.rename(tmp_path / "a [red] [b] :car:.mp4")
    (tmp_path / "[").mkdir()
    for words in (
        ("segment", clip, "-o", tmp_path / "[" / "x].mp4", "--report", tmp_path),
        ("demo", clip, "-o", tmp_path),
    ):
        code, printed, told = lowlat(*words)
        assert code == 0, told
        assert clip.name in printed and f"{tmp_path}/report.html" in printed


def test_names_that_are_no_text_do_not_end_a_run(lowlat, segmenter, clip, tmp_path):
    """A disk that was written elsewhere has such names: neither pictures nor terminals can show them."""
    clip, out = clip.rename(tmp_path / "caf\udce9.mp4"), tmp_path / "\udce4"
    for words in (("segment", clip, "-o", tmp_path / "\udcfc.mp4", "--report", out), ("demo", clip, "-o", out)):
        code, printed, told = lowlat(*words)
        assert code == 0, told
        assert "caf?.mp4" in printed.replace("\n", "").replace(" ", "") and "?/report.html" in printed
        assert "caf?.mp4" in (out / "report.html").read_text()
    code, printed, told = lowlat("compare", out, out, "-o", tmp_path / "\udce4.html")
    assert code == 0, told


def test_segment_without_the_option_leaves_none(lowlat, segmenter, clip, tmp_path):
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "out.mp4"}


def test_the_page_leads_to_label_maps(lowlat, segmenter, clip, tmp_path):
    code, printed, _ = lowlat("segment", clip, "-o", tmp_path / "maps", "--report", tmp_path / "run", "--json")
    assert code == 0 and json.loads(printed)["frames"] == 20
    page = Page(tmp_path / "run" / "report.html")
    assert (
        ("a", "href", "../maps/") in page.addresses
        and "The labels" in page.words
        and not [tag for tag, *_ in page.addresses if tag == "video"]
    )
    code, printed, _ = lowlat("segment", clip, "-o", "-", "--format", "jsonl", "--report", tmp_path / "piped")
    assert code == 0 and len(printed.splitlines()) == 20
    assert "The labels" not in (tmp_path / "piped" / "report.html").read_text()


def test_a_folder_that_cannot_hold_the_report_is_told_before_the_run(refused, segmenter, clip, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "file")
    assert "expected a folder to write to" in line and "--report" in line
    line = refused("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "page.html")
    assert "name a folder with --report" in line
    assert "name a folder with --out" in refused("demo", clip, "-o", tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "file"]


def test_a_run_that_cannot_begin_leaves_no_report(lowlat, segmenter, clip, tmp_path):
    assert lowlat("segment", tmp_path / "none.mp4", "-o", tmp_path / "out.mp4", "--report", tmp_path / "a")[0] == 2
    assert not (tmp_path / "a").exists()
    segmenter.broken[0] = RuntimeError("no frame at all")
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "b")[0] == 1
    assert [path.name for path in (tmp_path / "b").iterdir()] == []


def test_a_run_that_is_interrupted_or_breaks_leaves_its_page(lowlat, segmenter, clip, tmp_path):
    segmenter.broken[7] = KeyboardInterrupt()
    assert lowlat("segment", clip, "-o", tmp_path / "a.mp4", "--report", tmp_path / "a")[0] == 130
    report = report_of(tmp_path / "a")
    assert report["interrupted"] and "was interrupted" in (tmp_path / "a" / "report.html").read_text()
    segmenter.broken[7] = RuntimeError("no such <kernel>")
    code, _, told = lowlat("segment", clip, "-o", tmp_path / "b.mp4", "--report", tmp_path / "b")
    assert code == 1 and "no such <kernel>" in told
    assert report_of(tmp_path / "b")["error"] == "no such <kernel>"
    assert "It broke off: no such &lt;kernel&gt;" in (tmp_path / "b" / "report.html").read_text()


def test_a_disk_that_is_full_at_the_end_is_told(lowlat, segmenter, clip, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(live, "write_run", full)
    code, _, told = lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "run")
    assert code == 2 and "expected room for the report" in told
    with open_source(tmp_path / "out.mp4") as source:
        assert len(list(source)) == 20


def test_a_clip_of_one_frame(lowlat, refused, segmenter, tmp_path):
    """It is all start-up: a run of it has a page without a curve, and no demo."""
    clip = tmp_path / "one.mp4"
    with VideoSink(clip, (64, 48), 25) as sink:
        sink.write(np.full((48, 64, 3), 90, np.uint8))
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "run")[0] == 0
    page = Page(tmp_path / "run" / "report.html")
    assert page.cells["median latency"] == "–" and page.cells["frames"] == "1"
    assert "no frames behind start-up" in page.text and '<path class="curve' not in page.text
    code, _, told = lowlat("demo", clip, "-o", tmp_path / "demo")
    assert code == 2 and "expected a clip of at least 2 frames" in told
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_long_run_is_kept_in_bounded_memory(lowlat, segmenter, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "MOST_FRAMES", 6)
    monkeypatch.setattr(live, "TRACE_FRAMES", 3)
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "run")[0] == 0
    report = report_of(tmp_path / "run")
    assert [row["index"] for row in report["per_frame"]] == list(range(14, 20)) and report["frames_left_out"] == 14
    assert report["frames"] == 20 and "14 before them are left out" in (tmp_path / "run" / "report.html").read_text()
    monkeypatch.setattr(record, "MOST_FRAMES", 6)
    assert lowlat("demo", clip, "-o", tmp_path / "demo", "--fps", 500)[0] == 0
    assert len(report_of(tmp_path / "demo")["frames"]) == 6


def test_ticks_are_round_and_few():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(-0.5, 19.5, 8) == [0, 5, 10, 15]
    assert ticks(0, 0.4, 4) == [0, 0.1, 0.2, 0.3, 0.4]
    for top in (1e-3, 1, 7.3, 480, 1e6):
        assert 2 <= len(ticks(0, top)) <= 7


def test_policies_are_told_in_words():
    assert policy_words(None) == "as the weights say"
    assert policy_words(POLICIES["every"](interval=5)) == "every, interval 5"
    assert policy_words(POLICIES["adaptive"](threshold=0.25)).startswith("adaptive, threshold 0.25")
