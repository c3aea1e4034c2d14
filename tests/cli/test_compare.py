"""`lowlat compare`: two runs side by side, and runs that can't be compared."""

import json
import shutil

import pytest
from report_pages import Page

from lowlat.jobs.report.page import write_run


@pytest.fixture
def runs(lowlat, segmenter, clip, tmp_path):
    """Two demos in folders of awkward names; the second is slower and was asked for another rate."""
    first, second = tmp_path / "x <" / "script>", tmp_path / "x <" / "ä [b] 'c'"
    assert lowlat("demo", clip, "-o", first, "--fps", 500)[0] == 0
    shutil.copytree(first, second)
    report = json.loads((second / "report.json").read_text())
    report["low_latency"] |= {"median_ms": 80.5, "degraded": 3}
    report["frame_by_frame"]["median_ms"] = None
    report["settings"]["fps"], report["machine"]["torch"] = 250.0, "9.9 <b>"
    report["agreement_percent"] = 75.5
    write_run(second, report)
    return first, second


def change(folder, **values):
    path = folder / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_both_values_and_their_difference(lowlat, runs):
    code, printed, _ = lowlat("compare", *runs, "--json")
    told, first = json.loads(printed), json.loads((runs[0] / "report.json").read_text())
    median = first["low_latency"]["median_ms"]
    assert code == 0 and told["kind"] == "demo" and told["runs"] == {"first": str(runs[0]), "second": str(runs[1])}
    assert told["settings"] == {"fps": {"first": 500.0, "second": 250.0}}
    assert told["machine"] == {"torch": {"first": first["machine"]["torch"], "second": "9.9 <b>"}}
    assert told["figures"]["low_latency.median_ms"] == {
        "first": median,
        "second": 80.5,
        "difference": pytest.approx(80.5 - median, abs=1e-3),
        "ratio": pytest.approx(80.5 / median, rel=1e-3),
    }
    assert told["figures"]["agreement_percent"]["difference"] == -24.5
    assert told["figures"]["frame_by_frame.median_ms"]["difference"] is None


def test_the_terminal_says_first_what_differs(lowlat, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, printed, told = lowlat("compare", runs[0] / "report.json", runs[1])
    assert code == 0 and printed.index("What differs") < printed.index("Figures")
    for words in ("ä [b] 'c'", "9.9 <b>", "500.0", "250.0", "80.5 ms", "-24.5 points", "same", "+3"):
        assert words in printed, words


def test_the_page_holds_both(lowlat, runs, tmp_path):
    page_path = tmp_path / "pages" / "both.html"
    code, printed, _ = lowlat("compare", *runs, "-o", page_path)
    page, names = Page(page_path), ["script>", "ä [b] 'c'"]
    assert code == 0 and "both.html" in printed
    assert len(page.scripts) == 2 and page.outside == []
    assert [one["name"] for one in page.data["series"]] == names and page.cells["figure"] == [*names, "difference"]
    assert page.cells["torch"][1] == "9.9 <b>" and page.cells["fps"] == ["500.0", "250.0"]
    assert page.cells["agreement with frame by frame"] == ["100.0 %", "75.5 %", "-24.5 points"]
    assert [tag for tag, name, value in page.addresses if value.startswith("data:video")] == ["video", "video"]
    links = [value for tag, _, value in page.addresses if tag == "a" and value.endswith("report.html")]
    assert links == ["../x%20%3C/script%3E/report.html", "../x%20%3C/%C3%A4%20%5Bb%5D%20%27c%27/report.html"]


def test_a_run_beside_itself_is_the_same(lowlat, runs):
    code, printed, _ = lowlat("compare", runs[0], runs[0])
    assert code == 0 and "What differs" not in printed and "+" not in printed.replace("+cpu", "")


def test_a_video_that_has_gone_is_told_on_the_page(lowlat, runs, tmp_path):
    (runs[1] / "overlay.mp4").unlink()
    (runs[0] / "overlay.png").write_bytes(b"no picture")
    assert lowlat("compare", *runs, "-o", tmp_path / "both.html")[0] == 0
    assert "found none" in (tmp_path / "both.html").read_text()


def test_runs_of_two_kinds_are_refused(lowlat, refused, runs, clip, tmp_path):
    assert lowlat("segment", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "segmented")[0] == 0
    assert "expected two runs of one kind" in refused("compare", runs[0], tmp_path / "segmented")


def test_runs_that_are_none_are_refused(refused, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere", "nowhere/report.json"):
        assert "there is no" in refused("compare", runs[0], tmp_path / place)
    (tmp_path / "half.json").write_text((runs[0] / "report.json").read_text()[:900])
    assert "no whole JSON" in refused("compare", tmp_path / "half.json", runs[1])
    assert "no text" in refused("compare", runs[0] / "overlay.mp4", runs[1])
    for text in ("[1]", '{"kind": "study"}', '{"video": "made before there were kinds"}'):
        (tmp_path / "other.json").write_text(text)
        assert "none of demo, latency, segment" in refused("compare", tmp_path / "other.json", runs[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": None}, "expected a list 'frames'"),
        ({"frames": [{"index": 3}]}, "expected 'age' in a frame"),
        ({"settings": [1]}, "expected an object 'settings'"),
        ({"machine": None}, "expected an object 'machine'"),
        ({"low_latency": {}}, "expected a figure 'low_latency.median_ms'"),
        ({"agreement_percent": "much"}, "expected a number 'agreement_percent'"),
        ({"overlay": 5}, "expected a path or null as 'overlay'"),
        ({"made_at": 5}, "expected a str 'made_at'"),
        ({"agreement_percent": float("nan")}, "got NaN"),
        ({"settings": {"fps": float("inf")}}, "got Infinity"),
        ({"agreement_percent": 10**400}, "expected a number 'agreement_percent'"),
        ({"missing": None}, "expected a list, or nothing, as 'missing'"),
        ({"missing": [[1]]}, "expected a list, or nothing, as 'missing'"),
        ({"gaps": 3}, "expected a list, or nothing, as 'gaps'"),
        ({"notice": 3}, "expected words, null or nothing as 'notice'"),
        ({"maps": 3}, "expected words, null or nothing as 'maps'"),
        ({"kind": []}, "none of demo"),
    ],
)
def test_incomplete_reports_are_refused(refused, runs, changes, words):
    change(runs[1], **changes)
    assert words in refused("compare", *runs)


@pytest.mark.parametrize("rows", [0, 1])
def test_runs_with_hardly_a_frame_are_put_side_by_side(lowlat, runs, tmp_path, rows):
    change(runs[0], frames=json.loads((runs[0] / "report.json").read_text())["frames"][:rows])
    change(runs[1], frames=[])
    assert lowlat("compare", *runs, "-o", tmp_path / "both.html")[0] == 0
    assert [len(one["index"]) for one in Page(tmp_path / "both.html").data["series"]] == [rows, 0]


def test_under_json_an_error_is_an_object(lowlat, runs, tmp_path):
    code, printed, _ = lowlat("compare", runs[0], tmp_path / "nowhere", "--json")
    assert code == 2 and "there is no" in json.loads(printed)["error"]


def test_pages_that_cannot_be_written_are_refused(refused, runs, tmp_path):
    (tmp_path / "file").write_text("")
    assert "expected a file to write to" in refused("compare", *runs, "-o", tmp_path / "file" / "both.html")
    (tmp_path / "folder.html").mkdir()
    assert "Is a directory" in refused("compare", *runs, "-o", tmp_path / "folder.html")
    assert "name an .html file" in refused("compare", *runs, "-o", tmp_path / "both.pdf")
    assert "beside the runs' own" in refused("compare", *runs, "-o", runs[0] / "report.html")
    assert [path.name for path in runs[0].iterdir() if "part" in path.name] == []
