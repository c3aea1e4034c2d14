"""The benchmark suite itself, on tiny problems: contenders are right, results keep, figures add up."""

import csv
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch._inductor import config as inductor
from torch._inductor.utils import run_and_get_code
from typer.testing import CliRunner

import svconv
from benchmarks import downstream, pages, plots, results
from benchmarks.__main__ import app
from benchmarks.checks import gate, run, sampled_error, tolerance
from benchmarks.contenders import CONTENDERS, _padded, sum_of_taps, unfold
from benchmarks.figures import figures
from benchmarks.measure import Measured
from benchmarks.problems import (
    KERNELS,
    LIVE,
    OPERATIONS,
    PAPER,
    PRESETS,
    PROBLEMS,
    SMALL,
    Problem,
    Task,
    in_other_forms,
)
from benchmarks.roofs import Roof
from benchmarks.rows import fill_ratios, rows_of

TINY = Problem("tiny", (1, 32, 10, 12), kernel_size=3)
ROOF = Roof("cpu", "float32", 2, copy=1e10, matrix=1e11)


_NOT_HERE = {f"svconv ({backend.name})" for backend in svconv.backends() if backend.cpu}
_NOT_HERE |= {name for name, contender in CONTENDERS.items() if contender.requires}


@pytest.mark.parametrize("name", sorted(set(CONTENDERS) - _NOT_HERE))
def test_contenders_are_right(name):
    problem = Problem("small", (2, 6, 9, 14), kernel_size=5)
    assert gate(CONTENDERS[name].function, problem, training=False) <= tolerance(problem.dtype)


@pytest.mark.parametrize("channels_last", [False, True])
def test_samples_agree_with_the_reference(channels_last):
    problem = Problem("small", (2, 5, 9, 14), 5, torch.float64, channels_last)
    tensors = problem.tensors()
    found = run(unfold, problem, tensors, training=True)
    assert sampled_error(problem, tensors, found) < 1e-12
    for index in range(3):
        spoiled = [result.clone() for result in found]
        spoiled[index][..., 0, -1] += spoiled[index].abs().max()
        assert sampled_error(problem, tensors, spoiled) > 1e-3
        spoiled[index][..., 4, 4] = torch.nan
        assert sampled_error(problem, tensors, spoiled) == float("inf")


def test_the_compiled_loop_is_one_kernel():
    input, logits, _ = Problem("small", (1, 4, 6, 16), kernel_size=3).tensors()
    compiled = torch.compile(sum_of_taps, fullgraph=True, dynamic=False)
    with inductor.patch(fx_graph_cache=False), torch.inference_mode():
        out, (code,) = run_and_get_code(compiled, _padded(input, 3), logits, 3)
    assert code.count("= async_compile.") == 1
    torch.testing.assert_close(out, unfold(input, logits, 3))


def test_roof_is_the_slower_of_bytes_and_flops():
    problem = Problem("round", (1, 10, 10, 10), kernel_size=3)
    assert problem.bytes("forward") == 4 * (1000 + 900 + 1000)
    assert problem.bytes("backward") == 4 * (3 * 1000 + 2 * 900)
    assert problem.bytes("forward+backward") == problem.bytes("forward") + problem.bytes("backward")
    assert [problem.flops(operation) for operation in OPERATIONS] == [18_000, 36_000, 54_000]
    assert Roof("", "", 1, copy=11_600, matrix=36_000).ms(problem, "forward") == pytest.approx(1000)
    assert Roof("", "", 1, copy=23_200, matrix=18_000).ms(problem, "forward") == pytest.approx(1000)


def timed(problem, operation, contender, ms, spread=0.0, threads=2, memory=1):
    """Return a row with a planted time."""
    task = Task(problem, contender, operation != "forward", threads)
    samples = {operation: [ms - spread, ms, ms + spread]}
    measured = Measured(task, contender, memory={operation: memory}, samples=samples)
    (row,) = rows_of(measured, ROOF, (operation,))
    return row


def planted_run() -> results.Results:
    nhwc, bf16, _ = in_other_forms(PAPER)
    live = LIVE[0]
    rows = [
        timed(PAPER, "forward", "svconv (slow)", 90),
        timed(PAPER, "forward", "svconv (cpu)", 20, memory=2 * (PAPER.logits_bytes + PAPER.feature_bytes)),
        timed(PAPER, "forward", "unfold", 5000),
        timed(PAPER, "forward", "loop, compiled", 500),
        timed(PAPER, "forward", "svconv (cpu)", 30, threads=1),
        timed(PAPER, "forward", "svconv (cpu), out=", 16),
        timed(PAPER, "forward", "svconv (cpu), out=", 28, threads=1),
        timed(PAPER, "backward", "svconv (cpu)", 50),
        timed(PAPER, "forward+backward", "svconv (cpu)", 75),
        timed(PAPER, "forward+backward", "unfold", 15000),
        timed(nhwc, "forward", "svconv (cpu)", 16),
        timed(nhwc, "backward", "svconv (cpu)", 100),
        timed(bf16, "forward", "svconv (cpu)", 10),
        timed(KERNELS[0], "forward", "svconv (cpu)", 5),
        timed(KERNELS[1], "forward", "svconv (cpu)", 100),
        timed(PAPER, "forward+backward", "svconv, step", 80),
        timed(PAPER, "forward+backward", "unfold, mul + sum, step", 8000),
        timed(SMALL, "forward", "svconv, plain call", 0.05),
        timed(SMALL, "forward", "svconv, raw operator", 0.04),
        timed(live, "forward", "svconv (cpu)", 1),
        timed(live, "forward", "unfold", 30),
        timed(live, "forward", "loop, compiled", 2),
    ]
    fill_ratios(rows)
    banner = {"device": "a (device)", "cores": 2, "preset": "table", "instruction_set": "avx2", "torch": "2.13.0"}
    banner["date"] = "2026-01-02T03:04:05"
    return results.Results(banner, [ROOF], rows, figures(rows))


def test_figures_from_planted_times():
    found = planted_run().figures
    roofs = [ROOF.ms(problem, "forward") for problem in (PAPER, PAPER, *KERNELS[:2], LIVE[0])]
    roofs.insert(4, ROOF.ms(PAPER, "backward"))
    over_roofs = [ms / roof for ms, roof in zip((20, 16, 5, 100, 50, 1), roofs, strict=True)]
    values = [*over_roofs, 250, 25, 200, 2.5, 3.0, 100, 10, 1.25, 2.0, 0.5, 2.0, 30, 2.0, 1.5, 1.75]
    assert [figure.value for figure in found] == pytest.approx(values)
    assert [figure.met for figure in found][6:] == [
        True,
        True,
        True,
        True,
        False,
        False,
        True,
        True,
        False,
        True,
        False,
        True,
        False,
        False,
        True,
    ]


DOWNSTREAM = {
    **{"date": "2026-01-02T03:04", "preset": "downstream", "device": "a", "cores": 2, "instruction_set": "avx2"},
    "torch": "2.13.0",
    "rows": [
        {
            "name": "carafe, x2, K=5, 256 channels",
            "operation": "forward",
            "figures": {
                "svconv": {"memory_mb": 1.25, "ms": [2, 1.5, 2.5]},
                "replaced": {"memory_mb": 50, "ms": [80, 70, 90]},
            },
            "times": [40, 38, 44],
        }
    ],
}


def test_pages_show_what_was_committed(tmp_path, monkeypatch):
    folder = tmp_path / "benchmarks" / "results"
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "SHOWN", str(results.save(planted_run(), folder)))
    page = "before\n<!-- benchmarks/results/downstream.json -->\n| 7 |\n<!-- end -->\nafter\n"
    assert "| 7 |" not in pages.written("a.md", page)
    bars = [asdict(figure) for figure in downstream.bars(DOWNSTREAM["rows"])]
    (folder / "downstream.json").write_text(json.dumps({**DOWNSTREAM, "figures": bars}))
    shown = pages.written("a.md", page)
    row = (
        "| carafe, x2, K=5, 256 channels | forward | replaced | 2 (1.5, 2.5) | 80 (70, 90) | 40 (38, 44) | 1.2 | 50.0 |"
    )
    assert row in shown and "| 40.0 | >= 20 | yes |" in shown
    assert shown.startswith("before\n<!-- ") and shown.endswith("<!-- end -->\nafter\n")
    assert pages.written("a.md", shown) == shown
    case = "| forward | float32, NCHW | 1, 256, 128, 256; 9 | svconv (cpu) | "
    readme = pages.written(
        "README.md", f"two cores (AMD EPYC, SSE2, float32)\n0 of the run's 3 bars are met\n{case}999 | 1 |\n"
    )
    figures = planted_run().figures
    assert f"{sum(figure.met for figure in figures)} of the run's {len(figures)} bars are met" in readme
    assert f"{case}20.0 (20.0, 20.0) | " in readme and "(AMD EPYC, AVX2, float32)" in readme


def test_figures_without_their_rows_have_no_value():
    assert all(figure.value is None and figure.met is None for figure in figures([]))


def test_ratios_stay_within_a_case():
    rows = planted_run().rows
    ours = next(row for row in rows if row.contender == "svconv (cpu)" and row.operation == "forward")
    assert (ours.over_unfold, ours.over_best_other) == pytest.approx((250, 25))
    alone = next(row for row in rows if row.threads == 1)
    assert (alone.over_unfold, alone.over_best_other) == (None, None)


def test_results_survive_json_and_csv(tmp_path):
    kept = planted_run()
    path = results.save(kept, tmp_path)
    assert results.load(path) == kept
    assert path.name == "a-device-2cores-table.json"
    with path.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["ms"]) for row in rows] == [row.ms for row in kept.rows]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.with_suffix(".csv").name, path.name]


def test_compare_flags_a_slow_down_and_not_noise(tmp_path):
    def run_with(ms, spread, status="ok"):
        row = timed(TINY, "forward", "svconv (cpu)", ms, spread)
        row = row if status == "ok" else replace(row, ms=None, status=status)
        return results.Results({"device": "a", "cores": 1, "preset": "tiny"}, [], [row], [])

    before = run_with(10, 0.1)
    assert results.compare(before, run_with(10.4, 0.1)) == []
    assert results.compare(before, run_with(12, 3)) == []
    assert [change.worse for change in results.compare(before, run_with(12, 0.1))] == [True]
    assert [change.worse for change in results.compare(before, run_with(8, 0.1))] == [False]
    assert [change.worse for change in results.compare(before, run_with(8, 0.1, "wrong"))] == [True]

    paths = [str(results.save(run_with(ms, 0.1), tmp_path / str(ms))) for ms in (10, 12)]
    assert CliRunner().invoke(app, ["compare", *paths]).exit_code == 1
    assert CliRunner().invoke(app, ["compare", *reversed(paths)]).exit_code == 0


def test_plots_are_written(tmp_path):
    problems = [TINY, *(replace(TINY, shape=(1, c, 10, 12)) for c in (8, 16)), replace(TINY, shape=(1, 32, 20, 24))]
    problems.append(replace(TINY, kernel_size=5))
    rows = [timed(problem, "forward", name, 10) for problem in problems for name in ("svconv (cpu)", "unfold")]
    run = results.Results({"device": "a"}, [], rows, [])
    paths = plots.plot(run, tmp_path, "tiny")
    assert [path.name for path in paths] == [f"tiny-{name}.png" for name in ("channels", "size", "kernel", "memory")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_ask_for_known_contenders_and_threads(name):
    groups = PRESETS[name](list(CONTENDERS), [1, 2])
    tasks = [task for group in groups for task in group]
    assert len(set(tasks)) == len(tasks)
    assert {task.contender for task in tasks} <= {*CONTENDERS, "svconv"}
    assert {task.threads for task in tasks} <= {1, 2}


@pytest.mark.serial
def test_command_line_measures_and_writes(tmp_path, monkeypatch):
    monkeypatch.setitem(PROBLEMS, "tiny", TINY)
    arguments = ["tiny", "--directions", "forward", "backward", "--threads", "1", "2", "--contender", "svconv (cpu)"]
    outcome = CliRunner().invoke(app, [*arguments, "--budget", "0.1", "--repetitions", "2", "--out", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert [(row["operation"], row["threads"]) for row in rows] == [
        (operation, threads) for operation in ("forward", "backward") for threads in (1, 2)
    ]
    assert CliRunner().invoke(app, ["no-such-problem"]).exit_code == 2
