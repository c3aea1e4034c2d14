"""The acceptance figures: each is computed from the rows of a run and has a bar that it should meet."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.problems import (
    BASELINE,
    INTO,
    KERNELS,
    LIVE,
    OURS,
    PAPER,
    PLAIN,
    RAW,
    SMALL,
    SPECIAL,
    STEP,
    UNFOLD_STEP,
    WIDE,
    Problem,
    in_other_forms,
)
from benchmarks.rows import Row


@dataclass
class Figure:
    """A value and its bar; `value` is None if a row it needs wasn't timed, `relation` is ">=" or "<="."""

    name: str
    value: float | None
    relation: str
    bar: float

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bar if self.relation == ">=" else self.value <= self.bar


class _Rows:
    """The timed rows of a run, looked up at its largest thread count; "svconv" finds the fastest backend of svconv."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = [row for row in rows if row.ms is not None]
        self.most = max((row.threads for row in rows), default=1)

    def find(self, problem: Problem, operation: str, contender: str = OURS, threads: int | None = None) -> Row | None:
        found = [
            row
            for row in self.rows
            if (row.n, row.c, row.h, row.w) == problem.shape
            and (row.kernel_size, row.dtype, row.layout) == (problem.kernel_size, problem.type_name, problem.layout)
            and (row.operation, row.threads) == (operation, threads or self.most)
            and _is(row, contender)
        ]
        return min(found, key=lambda row: row.ms, default=None)

    def speedup(self, problem: Problem, operation: str, other: str) -> float | None:
        return _ratio(self.find(problem, operation, other), self.find(problem, operation))

    def share(self, problem: Problem, operation: str) -> float | None:
        """Return the least time by the roof over the time taken; None where that wasn't timed."""
        row = self.find(problem, operation)
        return row.roof if row else None


def _is(row: Row, contender: str) -> bool:
    if row.contender in SPECIAL:
        return row.contender == contender
    into = row.contender.endswith(INTO)
    return {OURS: row.ours and not into, OURS + INTO: row.ours and into}.get(contender, row.contender == contender)


def _ratio(numerator: Row | None, denominator: Row | None) -> float | None:
    return numerator.ms / denominator.ms if numerator and denominator else None


def _over_roof(row: Row | None) -> float | None:
    return 1 / row.roof if row else None


def _apart(a: Row | None, b: Row | None) -> float | None:
    return max(a.ms / b.ms, b.ms / a.ms) if a and b else None


def figures(rows: list[Row], device: str = "cpu") -> list[Figure]:
    """Return all figures for this kind of device."""
    return (_on_gpu if device.startswith("cuda") else _on_cpu)(_Rows(rows))


def _on_cpu(rows: _Rows) -> list[Figure]:
    nhwc, bf16, _ = in_other_forms(PAPER)
    find, speedup, most = rows.find, rows.speedup, rows.most

    forward, backward, step = find(PAPER, "forward"), find(PAPER, "backward"), find(PAPER, "forward+backward", STEP)
    narrow = [find(problem, "forward") for problem in KERNELS if problem.kernel_size in (3, 5)]
    plain, raw = (find(SMALL, "forward", contender) for contender in (PLAIN, RAW))
    into, into_by_one = (find(PAPER, "forward", OURS + INTO, threads) for threads in (most, 1))
    live = LIVE[0]
    loop = "loop, compiled"
    results_bytes = PAPER.logits_bytes + PAPER.feature_bytes
    return [
        Figure("forward / roof", _over_roof(forward), "<=", 1.6),
        Figure("forward with out= / roof", _over_roof(into), "<=", 1.4),
        Figure("forward, K = 3 / roof", _over_roof(narrow[0]), "<=", 3.0),
        Figure("forward, K = 5 / roof", _over_roof(narrow[1]), "<=", 3.0),
        Figure("backward / roof", _over_roof(backward), "<=", 1.8),
        Figure("live (1, 64, 45, 60): forward / roof", _over_roof(find(live, "forward")), "<=", 1.6),
        Figure("forward against unfold", speedup(PAPER, "forward", BASELINE), ">=", 200),
        Figure("forward against the compiled loop", speedup(PAPER, "forward", loop), ">=", 20),
        Figure("forward + backward against unfold", speedup(PAPER, "forward+backward", BASELINE), ">=", 100),
        Figure("backward / forward", _ratio(backward, forward), "<=", 3.0),
        Figure(
            "plain training step, without its forward / forward",
            (step.ms - forward.ms) / forward.ms if step and forward else None,
            "<=",
            2.5,
        ),
        Figure(
            "plain training step against unfold, mul + sum",
            _ratio(find(PAPER, "forward+backward", UNFOLD_STEP), step),
            ">=",
            130,
        ),
        Figure(
            "a call on (1, 8, 12, 10): svconv2d less the raw operator, us",
            1e3 * (plain.ms - raw.ms) if plain and raw else None,
            "<=",
            15,
        ),
        Figure("NCHW and channels-last apart, forward", _apart(forward, find(nhwc, "forward")), "<=", 1.25),
        Figure("NCHW and channels-last apart, backward", _apart(backward, find(nhwc, "backward")), "<=", 1.25),
        Figure("bfloat16 forward / float32 forward", _ratio(find(bf16, "forward"), forward), "<=", 1.0),
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
            _ratio(find(PAPER, "forward", threads=1), forward) if most > 1 else None,
            ">=",
            1.6,
        ),
        Figure(
            f"{most} threads against one, forward with out=", _ratio(into_by_one, into) if most > 1 else None, ">=", 1.6
        ),
    ]


def _on_gpu(rows: _Rows) -> list[Figure]:
    """Return the figures for GPUs, at N = 1, 128 x 256, K = 9. The bytes alone set the roof of bfloat16."""
    wide = {problem.name.removeprefix("channels-"): problem for problem in WIDE}
    first = wide["512-bf16-nhwc"]
    unfolded, ours = (rows.find(first, "forward+backward", contender) for contender in (BASELINE, OURS))
    shares = [
        ("forward", "512-bf16-nhwc", 0.60),
        ("forward", "2048-bf16-nhwc", 0.60),
        ("forward", "512-bf16", 0.50),
        ("forward", "2048-bf16", 0.50),
        ("forward", "512", 0.35),
        ("backward", "512-bf16-nhwc", 0.40),
        ("backward", "2048-bf16-nhwc", 0.40),
    ]
    return [
        *(
            Figure(f"{kind}, {name}: roof / time", rows.share(wide[name], kind), ">=", bar)
            for kind, name, bar in shares
        ),
        Figure("forward against unfold", rows.speedup(first, "forward", BASELINE), ">=", 30),
        Figure("forward against the compiled loop", rows.speedup(first, "forward", "loop, compiled"), ">=", 5),
        Figure("forward against FlexAttention", rows.speedup(first, "forward", "FlexAttention"), ">=", 5),
        Figure(
            "training step, peak extra memory of unfold / ours",
            unfolded.memory / ours.memory if unfolded and ours else None,
            ">=",
            20,
        ),
    ]
