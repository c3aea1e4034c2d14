"""The launches of the CUDA kernels as the tuning command sees them, and the figures of a run on a GPU."""

from dataclasses import astuple, replace
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import svconv
import svconv.ops
from benchmarks import __main__ as main
from benchmarks import tune
from benchmarks.__main__ import app
from benchmarks.figures import figures
from benchmarks.measure import Measured
from benchmarks.problems import PAPER, WIDE, Task
from benchmarks.roofs import Roof
from benchmarks.rows import rows_of
from benchmarks.tune import Launch, Timed, Work

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


TRUE = Work(bytes=0.05, exponentials=0.02, chunks=700.0)
START = 4000  # nanoseconds of a call, however it is cut


def made_up_work(launch: Launch, channels: int) -> Work:
    """Return the work of a frame of 64 x 128 pixels on 132 multiprocessors, in the manner of launch.cu."""
    rows, columns, chunks = 4 * launch.rows, 8 * launch.columns, -(-channels // 32 // launch.splits)
    busiest = -(-(64 // rows) * (128 // columns) * launch.splits // 132)
    bytes = busiest * (chunks * 64 * ((rows + 8) * (columns + 8) + rows * columns) + 162 * rows * columns)
    return Work(bytes, busiest * rows * columns * 144, chunks / launch.parts)


@pytest.fixture
def made_up_gpu(monkeypatch, tmp_path):
    """A GPU whose every launch takes TRUE times its work, START and a little noise; `works` has what was forced."""
    monkeypatch.setattr(tune, "COSTS", tmp_path / "costs.csv")
    monkeypatch.setattr(tune, "ROOT", tmp_path)
    tune.COSTS.write_text("1,\n1,\n1,\n")
    own = Launch("band", 4, 4, 1, 1, 3)
    now = {"launch": own, "channels": 64}
    noise = iter(torch.rand(100_000, generator=torch.Generator().manual_seed(0)).tolist())

    class Library:
        def svconv_force_launch(self, numbers):
            now["launch"] = Launch(tune.PATHS[numbers[0]], *numbers[1:]) if numbers else own

        def svconv_latest_work(self, work):
            work[:] = astuple(made_up_work(now["launch"], now["channels"]))

    class Clock:
        def __init__(self, device):
            assert device == "cuda"

        def time(self, call):
            call(lambda: None)
            work = astuple(made_up_work(now["launch"], now["channels"]))
            ns = START + sum(cost * count for cost, count in zip(astuple(TRUE), work, strict=True))
            return [ns * (1 + 0.02 * next(noise)) / 1e6]

    def call_of(problem, product):
        now["channels"] = problem.shape[1]
        return lambda: torch.ones(1)

    monkeypatch.setattr(tune, "library", Library)
    monkeypatch.setattr(tune, "Clock", Clock)
    monkeypatch.setattr(tune, "call_of", call_of)


def frames(*channels):
    return [replace(NHWC, shape=(1, count, 64, 128)) for count in channels]


def test_costs_are_found_again_from_made_up_times(made_up_gpu):
    timed = [row for problem in frames(64, 512) for row in tune.tune(problem, "forward", rounds=3)]
    timed += [row for problem in frames(64, 512) for row in tune.tune(problem, "grad_weight", rounds=3)]
    found = tune.fit(timed)
    assert astuple(found) == pytest.approx(astuple(TRUE), rel=0.1)
    first = tune.tune(frames(512)[0], "forward", rounds=3)
    assert tune.loss(found, first) < 1.02 < tune.loss(Work(-1, -1, -1), first)


def test_costs_never_fall_below_zero():
    work = [Work(b, e, c) for b in (1e3, 4e3) for e in (10, 500) for c in (1, 2, 5)]
    timed = [
        Timed(Launch("band", 1, 1, 1, 1, 3), (1000 + 2 * w.bytes - 0.1 * w.exponentials) / 1e6, "", w) for w in work
    ]
    found = tune.fit(timed)
    assert (
        found.bytes == pytest.approx(2, rel=0.05)
        and found.exponentials == 0
        and found.chunks == pytest.approx(0, abs=5)
    )


def test_too_few_or_too_similar_times_are_refused():
    launch, work = Launch("band", 1, 1, 1, 1, 3), Work(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="expected times of 12 launches or more, got 1"):
        tune.fit([Timed(launch, 1.0, "", work), Timed(launch, None, "does not fit")])
    with pytest.raises(ValueError, match="got counts that are in proportion"):
        tune.fit([Timed(launch, 1.0, "", work)] * 20)


def test_the_command_writes_costs_that_the_kernels_include(made_up_gpu, monkeypatch):
    monkeypatch.setattr(main.svconv, "backends", lambda: [SimpleNamespace(name="cuda", cuda=None)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a made-up GPU")
    before = tune.COSTS.read_text()
    outcome = CliRunner().invoke(app, ["tune", "channels-512-bf16-nhwc", "live-64", "--rounds", "2"])
    assert outcome.exit_code == 0, outcome.output
    assert tune.COSTS.read_text() == before and "times the fastest at worst, this 1.0" in outcome.output
    outcome = CliRunner().invoke(app, ["tune", "channels-512-bf16-nhwc", "live-64", "--rounds", "2", "--write"])
    assert outcome.exit_code == 0, outcome.output
    assert "Measured on a made-up GPU" in tune.COSTS.read_text()
    assert astuple(tune.read_costs()) == pytest.approx(astuple(TRUE), rel=0.15)
    lines = [line for line in tune.COSTS.read_text().splitlines() if not line.startswith("//")]
    assert [line.split("// ")[1] for line in lines] == ["byte", "exponential", "chunk"]


def test_costs_that_come_with_the_kernels_say_that_they_were_not_measured():
    rows = [line for line in tune.COSTS.read_text().splitlines() if not line.startswith("//")]
    names = [name.removesuffix("s") for name in Work.__dataclass_fields__]
    assert [row.split("// ")[1].split(":")[0] for row in rows] == names
    assert all("data sheet" in row for row in rows) or "Measured on" in tune.COSTS.read_text()
    assert tune.read_costs().bytes == pytest.approx(1 / 24, rel=1e-3) or "Measured on" in tune.COSTS.read_text()


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
