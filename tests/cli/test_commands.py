import importlib.metadata
import json
import subprocess
import sys

import pytest
import typer

from lowlat.cli import app
from lowlat.jobs.extras import LAB, LIVE


@pytest.mark.parametrize(
    "options, average, longest",
    [
        (("--policy", "per-frame"), 360, 360),
        (("--policy", "every", "--interval", 5, "--mode", "blocking"), 151.2, 360),
        (("--policy", "adaptive"), 171.2, 380),
        (("--policy", "adaptive", "--mode", "low-latency"), 119, 119),
        (("--policy", "adaptive", "--mode", "low-latency", "--decision", "deferred"), 99, 99),
    ],
)
def test_simulate_prints_the_papers_table(lowlat, options, average, longest):
    costs = ("--lower", 61, "--higher", 299, "--select", 20, "--propagate", 38)
    code, printed, _ = lowlat("simulate", *costs, *options, "--frames", 1000, "--json")
    report = json.loads(printed)
    assert code == 0
    assert (report["average_ms"], report["max_ms"]) == (average, longest)


def test_simulate_without_json_prints_names_and_figures(lowlat):
    code, printed, _ = lowlat("simulate", "--frames", 10)
    assert code == 0 and "average_ms" in printed and "151.2" in printed


def test_info_names_what_is_built(lowlat):
    code, printed, _ = lowlat("info", "--json")
    report = json.loads(printed)
    assert code == 0
    assert {"lowlat", "torch", "svconv", "cores", "gpus", "weights"} <= set(report)
    assert report["licences"]["code"] == "MIT" and "non-commercial" in report["licences"]["weights"]
    assert "reference" in report["svconv"]["backends"]


def test_version_and_help(lowlat):
    assert lowlat("--version")[1].startswith("lowlat ")
    printed = lowlat("--help")[1]
    for command in ("demo", "segment", "latency", "simulate", "train", "evaluate", "street", "info"):
        assert command in printed


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
def test_the_help_of_every_command_ends_well(command):
    done = subprocess.run([sys.executable, "-m", "lowlat", command, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and f"lowlat {command}" in done.stdout


MISSING = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
sys.argv = {argv!r}
from lowlat.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("absent", "argv", "extra"),
    [
        ({"typer"}, ["lowlat", "info"], "live"),
        ({"av"}, ["lowlat", "segment", "clip.mp4", "-o", "out"], "live"),
        ({"matplotlib"}, ["lowlat", "demo", "clip.mp4"], "live"),
        ({"safetensors"}, ["lowlat", "train", "base", "--data", "street:64x48,frames=4"], "lab"),
    ],
)
def test_a_command_whose_extra_is_missing_says_what_to_install(absent, argv, extra, tmp_path):
    program = MISSING.format(absent=absent, argv=argv)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert f"expected the package {next(iter(absent))}, which is not installed" in line
    assert f"of the extra '{extra}': pip install av typer" in line


def test_the_packages_of_the_extras_are_those_of_the_distribution():
    required = [line.partition(";") for line in importlib.metadata.requires("svconv")]
    for extra, packages in (("live", LIVE), ("lab", LAB)):
        named = {name.strip() for name, _, marker in required if f'extra == "{extra}"' in marker}
        assert {name for name in named if not name.startswith("svconv")} == {*packages} - (
            {*LIVE} if extra == "lab" else set()
        )


def test_every_command_keeps_freed_memory(lowlat, monkeypatch):
    kept = []
    monkeypatch.setattr("lowlat.cli.keep_freed_memory", lambda: kept.append(True))
    assert lowlat("simulate", "--frames", 5)[0] == 0 and kept == [True]


def test_help_and_simulate_start_without_torch():
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from lowlat.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['simulate', '--frames', '5']).exit_code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
