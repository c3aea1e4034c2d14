"""The launches of the CUDA kernels as the tuning command sees them, and the figures of a run on a GPU."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import svconv
import svconv.ops
from benchmarks import tune
from benchmarks.__main__ import app
from benchmarks.figures import figures
from benchmarks.measure import Measured
from benchmarks.problems import PAPER, WIDE, Task
from benchmarks.roofs import Roof
from benchmarks.rows import rows_of
from benchmarks.tune import Launch, Timed

NHWC = replace(PAPER, dtype=torch.bfloat16, channels_last=True)


@pytest.mark.parametrize("product", tune.PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_candidates_are_rows_of_the_table_with_every_split(dtype, product):
    problem = replace(PAPER, dtype=dtype, shape=(1, 96, 45, 60))
    found = tune.candidates(problem, product)
    assert {launch.path for launch in found} == {"fma" if dtype == torch.float32 else "band"}
    assert len(set(found)) == len(found)
    if product != "grad_weight":
        assert {launch.splits for launch in found} == {1, 2}
    assert tune.candidates(replace(problem, kernel_size=15), product) == []


def test_rows_come_in_the_tables_words():
    timed = [
        Timed(None, 0.25),
        Timed(Launch("band", 4, 2, 1, 1, 3), 0.125),
        Timed(Launch("band", 4, 1, 1, 1, 2), None, "does not fit"),
    ]
    assert tune.rows_of(timed, "grad_weight") == [
        "the table's choice: 0.2500 ms",
        "band, gradient, 4, 2, 1, 3,  // 0.1250 ms",
        "band, gradient, 4, 1, 1, 2,  // does not fit",
    ]
    assert "band, gradient, 4, 2, 1, 3,\n" in tune.TABLE.read_text()
    split = [Timed(None, 0.25), Timed(Launch("band", 4, 4, 8, 1, 3), 0.125)]
    assert tune.rows_of(split, "forward")[1] == "band, sums, 4, 4, 1, 3,  // channels among 8 blocks: 0.1250 ms"


@pytest.mark.skipif(svconv.build_info()["cuda"].startswith("none"), reason=f"CUDA: {svconv.build_info()['cuda']}")
def test_the_library_of_this_tool_lets_a_launch_be_forced():
    with tune.forced(tune.candidates(NHWC, "forward")[0]), tune.forced(None):
        pass
    schemas = [getattr(torch.ops.svconv_tuning, product).default._schema for product in tune.PRODUCTS]
    installed = [getattr(torch.ops.svconv, product).default._schema for product in tune.PRODUCTS]
    assert [str(s).removeprefix("svconv_tuning") for s in schemas] == [str(s).removeprefix("svconv") for s in installed]


def test_a_build_without_that_library_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match=r"expected .*build/\*/svconv_tuning.so, got none"):
        tune.library.__wrapped__()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it would be tuned for")
def test_without_a_gpu_tuning_says_so():
    outcome = CliRunner().invoke(app, ["tune", "paper"])
    assert outcome.exit_code == 2 and "the CUDA kernels can't run" in outcome.output


def test_figures_of_a_gpu_from_planted_times():
    roof = Roof("cuda", "bfloat16", 2, copy=4e12, matrix=8e14)
    wide = {problem.name: problem for problem in WIDE}
    first = wide["channels-512-bf16-nhwc"]

    def timed(problem, operation, contender, times, memory=1):
        task = Task(problem, contender, operation != "forward", 2)
        samples = {operation: [times * roof.ms(problem, operation)]}
        measured = Measured(task, contender, memory={operation: memory}, samples=samples)
        return rows_of(measured, roof, (operation,))

    rows = [
        *timed(first, "forward", "svconv (cuda)", 1.25),
        *timed(first, "forward", "unfold", 50),
        *timed(first, "forward", "loop, compiled", 5),
        *timed(first, "forward", "FlexAttention", 12.5),
        *timed(first, "backward", "svconv (cuda)", 4),
        *timed(first, "forward+backward", "svconv (cuda)", 4, memory=10),
        *timed(first, "forward+backward", "unfold", 90, memory=400),
        *timed(wide["channels-512"], "forward", "svconv (cuda)", 2),
    ]
    met = {figure.name: (figure.value, figure.met) for figure in figures(rows, "cuda") if figure.value is not None}
    assert met == {
        "forward, 512-bf16-nhwc: roof / time": (pytest.approx(0.8), True),
        "forward, 512: roof / time": (pytest.approx(0.5), True),
        "backward, 512-bf16-nhwc: roof / time": (pytest.approx(0.25), False),
        "forward against unfold": (pytest.approx(40), True),
        "forward against the compiled loop": (pytest.approx(4), False),
        "forward against FlexAttention": (pytest.approx(10), True),
        "training step, peak extra memory of unfold / ours": (pytest.approx(40), True),
    }
