"""The acceptance figures: each computed from the rows of a run, with its bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.problems import BASELINE, LIVE, OURS, PAPER, Problem, in_other_forms

if TYPE_CHECKING:
    from benchmarks.results import Row


@dataclass
class Figure:
    """`value` is None if a row it needs wasn't timed; `relation` is ">=" or "<="."""

    name: str
    value: float | None
    relation: str
    bar: float

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bar if self.relation == ">=" else self.value <= self.bar


def figures(rows: list[Row]) -> list[Figure]:
    """All figures, at the largest thread count of the run; ours is the fastest backend there."""
    most = max((row.threads for row in rows), default=1)
    nhwc, bf16, _ = in_other_forms(PAPER)

    def find(problem: Problem, operation: str, contender: str = OURS, threads: int = most) -> Row | None:
        found = [
            row
            for row in rows
            if (row.n, row.c, row.h, row.w) == problem.shape
            and (row.kernel_size, row.dtype, row.layout) == (problem.kernel_size, problem.type_name, problem.layout)
            and (row.operation, row.threads) == (operation, threads)
            and (row.ours if contender == OURS else row.contender == contender)
            and row.ms is not None
        ]
        return min(found, key=lambda row: row.ms, default=None)

    def ratio(numerator: Row | None, denominator: Row | None) -> float | None:
        return numerator.ms / denominator.ms if numerator and denominator else None

    def apart(a: Row | None, b: Row | None) -> float | None:
        return max(a.ms / b.ms, b.ms / a.ms) if a and b else None

    def speedup(problem: Problem, operation: str, other: str) -> float | None:
        return ratio(find(problem, operation, other), find(problem, operation))

    forward, backward = find(PAPER, "forward"), find(PAPER, "backward")
    live = LIVE[0]
    loop = "loop, compiled"
    results_bytes = PAPER.logits_bytes + PAPER.feature_bytes
    return [
        Figure("forward / roof", 1 / forward.roof if forward else None, "<=", 2.0),
        Figure("forward against unfold", speedup(PAPER, "forward", BASELINE), ">=", 200),
        Figure("forward against the compiled loop", speedup(PAPER, "forward", loop), ">=", 20),
        Figure("forward + backward against unfold", speedup(PAPER, "forward+backward", BASELINE), ">=", 100),
        Figure("backward / forward", ratio(backward, forward), "<=", 3.0),
        Figure("NCHW and channels-last apart, forward", apart(forward, find(nhwc, "forward")), "<=", 1.25),
        Figure("NCHW and channels-last apart, backward", apart(backward, find(nhwc, "backward")), "<=", 1.25),
        Figure("bfloat16 forward / float32 forward", ratio(find(bf16, "forward"), forward), "<=", 1.0),
        Figure(
            "peak extra memory, forward / (logits + output)",
            forward.memory / results_bytes if forward else None,
            "<=",
            1.1,
        ),
        Figure("live (1, 64, 45, 60): forward against unfold", speedup(live, "forward", BASELINE), ">=", 20),
        Figure("live (1, 64, 45, 60): forward against the compiled loop", speedup(live, "forward", loop), ">=", 3),
        Figure(
            f"{most} threads against one, forward",
            ratio(find(PAPER, "forward", threads=1), forward) if most > 1 else None,
            ">=",
            1.6,
        ),
    ]
