"""The code blocks of the README, the model card and the pages under docs/ are run or, where they take long, checked for
what they name.

- python: run, the blocks of a page in order in one namespace, in a temporary directory.
- output: what the python block before it prints.
- sh: commands of RUN are run; those of CHECKED are looked at: their targets, options and packages must exist. Any other
  command fails.
- text: formulas and diagrams; nothing to run.
- dockerfile, yaml: files beside the page, which `test_deploy.py` looks at.
"""

import ast
import contextlib
import io
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest
import torch
import typer
from running_service import picture, running
from tiny_networks import tiny
from torch import nn
from typer.testing import CliRunner

import benchmarks.__main__ as benchmarks
import lowlat
import svconv
from benchmarks import pages, report
from benchmarks.problems import FAMILIES, PRESETS, PROBLEMS
from benchmarks.results import load
from lowlat.cli import app

ROOT = Path(__file__).resolve().parents[1]
CARD = "lowlat/weights/README.md"
PAGES = ["README.md", CARD, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
LANGUAGES = ("python", "output", "sh", "text", "dockerfile", "yaml")


def names_of_the_readme():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 96, 128, 3), generator=generator, dtype=torch.uint8)
    cameras = {"camera": list(frames.numpy()), "rear_camera": list(frames.flip(0).numpy())}
    inputs = {"features": torch.randn(1, 4, 6, 7), "logits": torch.randn(1, 81, 6, 7), "model": somebodys_network()}
    return {**cameras, **inputs, "torch": torch, "svconv": svconv}


def somebodys_network():
    layers = {"layer2": nn.Conv2d(3, 4, 8, 8), "layer3": nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))}
    backbone = nn.Sequential(OrderedDict(layers, layer4=nn.Conv2d(4, 8, 3, padding=1)))
    classifier = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 3, 1))
    return nn.Sequential(OrderedDict(backbone=backbone, classifier=classifier))


def names_of_adopt():
    # torchvision can be imported from here on.
    from torchvision_library import torchvision

    return {"torchvision": torchvision}


def names_of_the_hub():
    cut = {"split": "backbone.layer3.2", "features": "classifier.3"}
    example = torch.zeros(1, 3, 96, 128)
    small = lowlat.adopt(somebodys_network(), **cut, classes=["road", "sky", "other"], example=example)
    return {"camera": names_of_the_readme()["camera"], "network": small, "show": lambda result: None}


def names_of_serve():
    """A service at `port`, which goes on to the end of these tests."""
    return {"port": OPEN.enter_context(running(tiny())).port, "picture": picture()}


# What a page's code takes as given.
GIVEN = {
    "README.md": names_of_the_readme,
    "docs/adopt.md": names_of_adopt,
    "docs/hub.md": names_of_the_hub,
    "docs/serve.md": names_of_serve,
}
# What lives until the last page has been run.
OPEN = ExitStack()


@pytest.fixture(scope="module", autouse=True)
def what_is_open_is_closed():
    yield
    OPEN.close()


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page):
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(page, text[: match.start()].count("\n") + 1, *match.groups()) for match in found]


def commands():
    lines = [
        (block, shlex.split(line, comments=True))
        for page in PAGES
        for block in blocks(page)
        for line in block.text.replace("\\\n", " ").splitlines()
        if block.language == "sh"
    ]
    return [pytest.param(words, id=f"{block}: {shlex.join(words)}") for block, words in lines if words]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    found = blocks(page)
    text = (ROOT / page).read_text()
    assert text.count("```") == 2 * len(found), "a fence that is not at the beginning of a line, or not closed"
    assert not re.search(r"^(    |\t)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M), (
        "an indented code block; use a fence"
    )
    for before, block in zip([None, *found], found, strict=False):
        assert block.language in LANGUAGES, f"{block}: expected one of {LANGUAGES}, got {block.language!r}"
        if block.language == "output":
            assert before and before.language == "python", f"{block}: the output of what?"


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))])
def test_python_blocks_run_and_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # On a busy machine a hub might have room for no video.
    monkeypatch.setattr("lowlat.hub.costs.Costs.fast_ms", lambda costs, size: 1.0)
    torch.manual_seed(0)
    namespace = {"__name__": "__docs__", **GIVEN.get(page, dict)()}
    printed = None
    for block in blocks(page):
        if block.language == "python":
            # Empty lines before it give errors the page's line numbers.
            code = compile("\n" * block.line + block.text, page, "exec")
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                exec(code, namespace)
            printed = stdout.getvalue()
        elif block.language == "output" and printed is not None:
            assert printed.strip() == block.text.strip(), block
        else:
            printed = None


def run_python(words):
    subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True, capture_output=True)


def run_lowlat(words):
    result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def check_make(words):
    subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def check_lowlat(words):
    check_options(typer.main.get_command(app).commands[words[1]], words[2:])


def check_torchrun(words):
    check_lowlat(words[words.index("lowlat") :])


def check_benchmarks(words):
    group = typer.main.get_command(benchmarks.app)
    name, *arguments = words[3:] if words[3:] and words[3] in group.commands else ["run", *words[3:]]
    check_options(group.commands[name], arguments)
    if name == "run":
        assert set(takewhile(lambda word: not word.startswith("-"), arguments)) <= {*PROBLEMS, *FAMILIES}


def check_downstream(words):
    (file,) = words[3:]
    assert f"<!-- {file} -->" in (ROOT / "docs" / "downstream.md").read_text()


def check_options(command, words):
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    # "-" alone is standard input or output.
    assert {word for word in words if word.startswith("-") and word != "-"} <= options


def check_pytest(words):
    assert all((ROOT / path).exists() for path in words[1:])


def check_files(words):
    """The files of this project that a command of others is given."""
    assert all((ROOT / word).exists() for word in words if word.startswith("docs/"))


def check_pip(words):
    project = (ROOT / "pyproject.toml").read_text()
    (required,) = re.findall(r"^requires = (\[.*\])$", project, flags=re.M)
    extras = re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], flags=re.M)
    known = {"wheel", ".", "--no-build-isolation", *re.findall(r"[\"']([\w-]+)", required)}
    known |= {f".[{extra}]" for extra in extras} | {"torchvision"}
    assert words[1] == "install" and {re.split(r"[<>=]", word)[0] for word in words[2:]} <= known
    # An environment may have older ones, which stay where no bound is given.
    assert all(word in required for word in words[2:] if ">=" in word)
    assert "setuptools" not in words


RUN = {"lowlat info": run_lowlat, "lowlat simulate": run_lowlat, "python -c": run_python}
# Long, or run elsewhere: what they name must exist.
CHECKED = {
    "make": check_make,
    "lowlat batch": check_lowlat,
    "lowlat compare": check_lowlat,
    "lowlat convert": check_lowlat,
    "lowlat demo": check_lowlat,
    "lowlat export": check_lowlat,
    "lowlat hub": check_lowlat,
    "lowlat segment": check_lowlat,
    "lowlat serve": check_lowlat,
    "lowlat train": check_lowlat,
    "docker build": check_files,
    "docker compose": check_files,
    "docker run": lambda words: run_lowlat(words[-2:]),
    "ray": check_files,
    "torchrun": check_torchrun,
    "lowlat evaluate": check_lowlat,
    "lowlat latency": check_lowlat,
    "lowlat study": check_lowlat,
    "lowlat street": check_lowlat,
    "python -m benchmarks": check_benchmarks,
    "python -m benchmarks.downstream": check_downstream,
    "pytest benchmarks": check_pytest,
    "python docs/examples/onnx_live.py": lambda words: check_pytest(words[:2]),
    "python -m pytest": lambda words: check_pytest(words[2:]),
    "pip install": check_pip,
}


@pytest.mark.parametrize("words", commands())
def test_commands_run_or_name_what_exists(words):
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        assert f'"{words[0].split("=")[0]}"' in (ROOT / "setup.py").read_text()
        words = words[1:]
    actions = [action for start, action in {**RUN, **CHECKED}.items() if words[: len(start.split())] == start.split()]
    assert actions, f"expected a command of RUN or CHECKED, got {shlex.join(words)}"
    actions[0](words)


def anchors(page):
    """The names under which a page's headings are linked to."""
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
    """The tables of a page, each as its lines."""
    found = re.findall(r"(?:^\|.*\n)+", (ROOT / page).read_text(), flags=re.M)
    return [table.splitlines() for table in found]


def table_of(page, heading):
    """The rows of the one table of a page whose first line is `heading`, without that line and the rule below it."""
    (rows,) = [lines[2:] for lines in tables(page) if lines[0] == heading]
    return rows


def rooms_imported(path, *, inside_functions=True):
    """The folders and single files of `lowlat` that a file of it imports."""
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
        printed = run_lowlat(shlex.split(f"{command} {options} --frames 1000"))
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
    study = json.loads((ROOT / "docs" / "study" / "study.json").read_text())
    schedules = [row for row in study["table1"] if row["network"] in ("per frame", "given")]
    assert len(schedules) == 4
    assert table_of(page, "| schedule | average ms | longest ms | mIoU |") == [
        f"| {row['schedule']} | {row['average_ms']:.1f} | {row['max_ms']:.1f} | {row['miou']:.1f} |"
        for row in schedules
    ]


def test_the_readme_counts_the_claims_of_the_committed_study():
    held = [check["held"] for check in json.loads((ROOT / "docs" / "study" / "study.json").read_text())["checks"]]
    words = dict(enumerate("no one two three four five six seven eight nine ten eleven twelve".split()))
    said = f"{words[held.count(False)]} of its {words[len(held)]} claims do not hold"
    assert said in " ".join((ROOT / "README.md").read_text().split())


def lite_figures(report):
    """The two tables of a report of `lowlat evaluate --distances`, as the model card shows them."""
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
