"""For regressions: `pytest benchmarks` (pytest-benchmark), ours only, after the correctness gate."""

import pytest

from benchmarks.contenders import ours
from benchmarks.measure import DIRECTIONS, gate
from benchmarks.problems import PROBLEMS


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_speed(benchmark, name, direction):
    problem = PROBLEMS[name]
    error, correct = gate(ours, problem)
    assert correct, f"{name}: error {error:.1e} against float64"
    benchmark.pedantic(DIRECTIONS[direction](ours, problem), rounds=5, warmup_rounds=1)
