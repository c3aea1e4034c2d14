"""Times svconv alone with pytest-benchmark, after checking it: `pytest benchmarks`, to find regressions."""

import pytest

from benchmarks.checks import gate, tolerance
from benchmarks.contenders import ours
from benchmarks.measure import Call
from benchmarks.problems import LIVE, PAPER, in_other_forms


@pytest.mark.parametrize("training", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("problem", [*LIVE, PAPER, *in_other_forms(PAPER)], ids=lambda problem: problem.name)
def test_speed(benchmark, problem, training):
    error = gate(ours, problem, training)
    assert error <= tolerance(problem.dtype), f"{problem.name}: error {error:.1e} against float64"
    benchmark.pedantic(Call(ours, problem, problem.tensors(), training), rounds=5, warmup_rounds=1)
