import json
import subprocess
import sys

import pytest


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
    assert {"lowlat", "torch", "svconv", "cores", "weights"} <= set(report)
    assert "reference" in report["svconv"]["backends"]


def test_version_and_help(lowlat):
    assert lowlat("--version")[1].startswith("lowlat ")
    printed = lowlat("--help")[1]
    for command in ("demo", "segment", "latency", "simulate", "train", "evaluate", "street", "info"):
        assert command in printed


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
