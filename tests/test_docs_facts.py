"""What the pages say is so: links lead somewhere, dotted names exist, tables and figures are those of the programs and
of the committed runs."""

import ast
import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from docs_pages import CARD, PAGES, ROOT
from typer.testing import CliRunner

import svconv
from benchmarks import pages, report
from benchmarks.problems import PRESETS
from benchmarks.results import load
from lowlat.cli import app
from lowlat.lab.study.checks import checks


def anchors(page):
    """Return the names under which a page's headings are linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / page).read_text()):
        if not link.startswith("https://"):
            target = (ROOT / page).parent / link if link else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


@pytest.mark.parametrize("folder", ["lowlat", "svconv", "docs"])
def test_dotted_names_in_texts_are_those_of_something(folder):
    """They are names of modules and of what those hold, in backticks in pages and docstrings."""
    texts = [path.read_text() for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    names = {name for text in texts for name in re.findall(r"`((?:lowlat|svconv)(?:\.\w+)+)`", text)}
    assert names
    for name in names:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            pytest.fail(f"{name}: {error}")


def tables(page):
    """Return the tables of a page, each as its lines."""
    found = re.findall(r"(?:^\|.*\n)+", (ROOT / page).read_text(), flags=re.M)
    return [table.splitlines() for table in found]


def table_of(page, heading):
    """Return the rows of the one table of a page whose first line is `heading`, without that line and the rule below
    it."""
    (rows,) = [lines[2:] for lines in tables(page) if lines[0] == heading]
    return rows


def rooms_imported(path, *, inside_functions=True):
    """Return the folders and single files of `lowlat` that a file of it imports."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if inside_functions else tree.body
    rooms = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "lowlat":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lowlat."):
            rooms.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lowlat.")}
    return rooms


def test_imports_run_as_the_architecture_says():
    stated = table_of("docs/architecture.md", "| room | imports of `lowlat` |")
    allowed = {}
    for row in stated:
        room, *others = re.findall(r"`(\w+)`", row)
        allowed[room] = {room, *others}
    assert {"schedule", "networks", "runtime", "video", "jobs", "lab", "cli"} <= allowed.keys()
    for room, others in allowed.items():
        files = [ROOT / "lowlat" / f"{room}.py", *(ROOT / "lowlat" / room).rglob("*.py")]
        for path in filter(Path.exists, files):
            assert rooms_imported(path) <= others, path
            assert room != "cli" or "lab" not in rooms_imported(path, inside_functions=False), path


def test_the_files_on_the_way_of_a_frame_exist_and_hold_what_is_named():
    for device in ("CPU", "GPU"):
        text = (ROOT / "docs" / "architecture.md").read_text().split(f"### One frame on a {device}\n")[1]
        rows = re.findall(r"^\| `(\S+\.py)` \| (.*) \|$", text.split("\n### ")[0], flags=re.M)
        assert 0 < len(rows) <= 10
        for file, what in rows:
            code = (ROOT / file).read_text()
            # Names of other files may be told beside them: only the first one is surely the file's own.
            name = re.search(r"`(\w+)(?:\.(\w+))?`", what)
            assert name is None or all(re.search(rf"\b{part}\b", code) for part in name.groups() if part), (file, name)


def test_the_table_of_simulated_schedules_is_what_simulate_prints():
    text = (ROOT / "docs" / "latency.md").read_text()
    command = re.search(r"^(lowlat simulate .*?) --policy", text, flags=re.M).group(1)
    rows = re.findall(r"^\| `(--policy .*?)` \| ([\d.]+) \| ([\d.]+) \|$", text, flags=re.M)
    assert len(rows) == 5
    for options, average, longest in rows:
        words = shlex.split(f"{command} {options} --frames 1000")
        printed = CliRunner().invoke(app, words[1:], catch_exceptions=False).stdout
        assert re.search(rf"^average_ms\s+{float(average)}$", printed, flags=re.M), options
        assert re.search(rf"^max_ms\s+{float(longest)}$", printed, flags=re.M), options


def committed_run():
    """The run of the operator's benchmark that the pages show."""
    return load(ROOT / "benchmarks" / "results" / "amd-epyc-2cores-table.json")


@pytest.mark.parametrize("page", pages.PAGES)
def test_pages_show_the_committed_runs(page):
    """`python -m benchmarks document` has nothing to write."""
    text = (ROOT / page).read_text()
    assert pages.written(page, text) == text


def test_the_speeds_of_the_benchmarks_page_are_those_of_the_committed_run():
    assert report.markdown(committed_run()) in (ROOT / "docs" / "benchmarks.md").read_text()


def test_the_readmes_speeds_are_rows_of_the_committed_run():
    printed = report.markdown(committed_run()).splitlines()
    (heading,) = [line for line in printed if line.startswith("| operation |")]
    rows = table_of("README.md", heading)
    assert 3 <= len(rows) <= 7
    assert set(rows) <= set(printed)


def test_the_readme_counts_the_bars_of_the_committed_run():
    met = [figure.met for figure in committed_run().figures]
    assert f"{met.count(True)} of the run's {len(met)} bars are met" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/latency.md"])
def test_the_latencies_are_those_of_the_committed_study(page):
    study = json.loads((ROOT / "docs" / "study-lite" / "study.json").read_text())
    schedules = [row for row in study["table1"] if row["network"] in ("per frame", "given")]
    assert len(schedules) == 4
    assert table_of(page, "| schedule | average ms | longest ms | mIoU |") == [
        f"| {row['schedule']} | {row['average_ms']:.1f} | {row['max_ms']:.1f} | {row['miou']:.1f} |"
        for row in schedules
    ]


def test_the_readme_counts_the_claims_of_the_committed_study():
    studies = [
        json.loads((ROOT / "docs" / name / "study.json").read_text()) for name in ("study-lite", "study-methods")
    ]
    held = [check["held"] for study in studies for check in study["checks"]]
    words = dict(enumerate("no one two three four five six seven eight nine ten eleven twelve".split()))
    said = f"{words[held.count(False)]} of its {words[len(held)]} claims do not hold"
    assert said in " ".join((ROOT / "README.md").read_text().split())


def test_the_schedules_are_compared_as_in_the_committed_studies():
    shown = table_of(
        "docs/study.md", "| video | fast track | adaptive over fixed, over F_l | accumulated over fixed, over F_l |"
    )
    expected = []
    for video, name in (("`val`", "study-lite"), ("street", "study-street")):
        rows = json.loads((ROOT / "docs" / name / "study.json").read_text())["figure5"]
        for track, network in (("its own", "given"), ("trained", "trained")):
            found = checks({"figure5": [row for row in rows if row["network"] == network]})
            values = {tuple(check["claim"].split()[:3:2]): f"{check['value']:.2f}" for check in found}
            pairs = (f"{values[ours, 'every']}, {values[ours, 'threshold']}" for ours in ("adaptive", "accumulated"))
            expected.append(f"| {video} | {track} | {' | '.join(pairs)} |")
    assert shown == expected


def test_the_methods_of_propagation_are_those_of_the_committed_study():
    table = json.loads((ROOT / "docs" / "study-methods" / "study.json").read_text())["table2"]
    rows = sorted((row for row in table if row["method"] != "per frame"), key=lambda row: -row["miou"])
    assert rows[0]["method"] == "adaptive-fusion"
    shown = table_of("docs/study.md", "| method | mIoU | spread | at 1 | at 5 | at 10 |")
    for line, row in zip(shown, rows, strict=True):
        _, miou, spread, *at = (cell.strip().strip("*") for cell in line.strip("|").split("|"))
        assert miou == f"{row['miou']:.2f}" and spread == (f"{row['spread']:.2f}" if row["seeds"] > 1 else "")
        assert at == [f"{row['at'][distance]:.1f}" for distance in ("1", "5", "10")]


def lite_figures(report):
    """Return the two tables of a report of `lowlat evaluate --distances`, as the model card shows them."""
    test, video, distances = report["test_per_frame"], report["video"], report["distances"]
    per_frame, scheduled, reuse = (video[name]["miou"] for name in ("per_frame", "scheduled", "reuse"))
    drop, gain = per_frame - scheduled, scheduled - reuse
    schedule = (
        f"adaptive low-latency schedule, S_h {video['delay']} frames late, mean key frame interval "
        f"{video['mean_interval']:.1f}, mean age {video['mean_age']:.1f} frames"
    )
    tested = f"**{test['miou']:.1f}** / {test['pixel_accuracy']:.1f} / {test['class_accuracy']:.1f}"
    rows = {
        "frames from the key frame": [str(row["distance"]) for row in distances],
        "propagation with fusion, mIoU": [f"{row['miou']:.1f}" for row in distances],
        "reuse of the key frame's labels, mIoU": [f"{row['reuse_miou']:.1f}" for row in distances],
    }
    figures = [
        "| figure | value |",
        "|---|---|",
        f"| test, per frame: mIoU / pixel accuracy / class accuracy | {tested} |",
        f"| labelled video (val), per frame: mIoU | {per_frame:.1f} |",
        f"| labelled video, {schedule}: mIoU | **{scheduled:.1f}** ({drop:.1f} below per frame) |",
        f"| the same, reusing the key frame's labels: mIoU | {reuse:.1f} ({gain:.1f} below the schedule) |",
    ]
    by_distance = [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    by_distance.insert(1, "|---" * (1 + len(distances)) + "|")
    return "\n".join(figures), "\n".join(by_distance)


def test_the_figures_of_lite_are_those_of_the_committed_evaluation():
    report = json.loads((ROOT / "docs" / "results" / "lite.json").read_text())
    for table in lite_figures(report):
        assert table in (ROOT / CARD).read_text()


def test_the_table_of_backends_is_the_programs():
    text = (ROOT / "docs" / "backends.md").read_text()
    table = text[: text.index("\n\n`print")]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, flags=re.M)
    assert rows == [(row.name, row.description) for row in svconv.backends()]


def test_the_table_of_instruction_sets_is_the_programs():
    text = (ROOT / "docs" / "backends.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", text[text.index("## Instruction sets") :], flags=re.M)
    built = list(svconv.build_info()["instruction_sets"])
    assert rows[: len(built)] == built


def test_the_table_of_presets_is_the_programs():
    assert re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "benchmarks.md").read_text(), flags=re.M) == list(PRESETS)
