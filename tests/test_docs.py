"""The code blocks of the README, the model card and the pages under docs/ are run or, where they take long, checked for
what they name.

- python: run, the blocks of a page in order in one namespace, in a temporary directory.
- output: what the python block before it prints.
- sh: commands of RUN are run; those of CHECKED are looked at: their targets, options and packages must exist. Any other
  command fails.
- text: formulas and diagrams; nothing to run.
- dockerfile, yaml: files beside the page, which `test_deploy.py` looks at.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import types
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from unittest import mock

import pytest
import torch
import typer
from docs_pages import PAGES, ROOT
from running_service import picture, running
from tiny_networks import tiny
from torch import nn
from typer.testing import CliRunner

import benchmarks.__main__ as benchmarks
import lowlat
from benchmarks.problems import FAMILIES, PROBLEMS
from lowlat.cli import app
from lowlat.video import source
from lowlat.video.sink import VideoSink

LANGUAGES = ("python", "output", "sh", "text", "dockerfile", "yaml")


def some_frames():
    generator = torch.Generator().manual_seed(0)
    return list(torch.randint(0, 256, (4, 96, 128, 3), generator=generator, dtype=torch.uint8).numpy())


def names_of_steadiness():
    """None: the clip is there to be opened."""
    write_frames("drive.mp4")
    return {}


def names_of_the_readme():
    """None: a clip and the module with somebody's network are there to be opened and imported."""
    write_frames("drive.mp4")
    sys.modules["mynet"] = types.SimpleNamespace(model=somebodys_network())
    return {}


def names_of_live():
    """None: where the page opens the camera 0, a clip is opened."""
    write_frames("0.mp4")
    opened = source.open_source
    OPEN.enter_context(mock.patch.object(source, "open_source", lambda spec: opened("0.mp4" if spec == "0" else spec)))
    return {}


def write_frames(path):
    with VideoSink(path, (128, 96), 25) as sink:
        for frame in some_frames():
            sink.write(frame)


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
    return {"camera": some_frames(), "network": small, "show": lambda result: None}


def names_of_serve():
    """A service at `port`, which goes on to the end of these tests."""
    return {"port": OPEN.enter_context(running(tiny())).port, "picture": picture()}


# What a page's code takes as given.
GIVEN = {
    "README.md": names_of_the_readme,
    "docs/adopt.md": names_of_adopt,
    "docs/live.md": names_of_live,
    "docs/steadiness.md": names_of_steadiness,
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
