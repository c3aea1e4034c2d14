"""Makes the rows of a run: one for each contender and operation."""

import statistics
from dataclasses import dataclass

from benchmarks.measure import Measured
from benchmarks.problems import BASELINE, OURS
from benchmarks.roofs import Roof


@dataclass
class Row:
    """One contender on one problem and operation. Times in ms; numbers are None where nothing was timed.

    `roof` is the least time that the machine's measured rates allow over the time taken. `memory` is the peak in bytes
    beyond the arguments. `over_unfold` and `over_best_other` say how many times faster it is than unfold, and than the
    fastest contender that is not svconv, with the same number of threads.
    """

    problem: str
    operation: str
    dtype: str
    layout: str
    n: int
    c: int
    h: int
    w: int
    kernel_size: int
    threads: int
    contender: str
    status: str
    note: str
    samples: int = 0
    ms: float | None = None
    ms_p20: float | None = None
    ms_p80: float | None = None
    gb_per_s: float | None = None
    tflop_per_s: float | None = None
    roof: float | None = None
    memory: int | None = None
    over_unfold: float | None = None
    over_best_other: float | None = None
    error: float | None = None

    @property
    def case(self) -> tuple:
        """All that is the same for contenders that are compared with each other."""
        sizes = (self.n, self.c, self.h, self.w, self.kernel_size)
        return (self.operation, self.dtype, self.layout, *sizes, self.threads)

    @property
    def ours(self) -> bool:
        return self.contender.startswith(OURS)


def rows_of(measured: Measured, roof: Roof, operations: tuple[str, ...]) -> list[Row]:
    """Make a row for each of the task's operations that is among `operations`."""
    problem, task = measured.task.problem, measured.task
    rows = []
    for operation in task.operations:
        if operation not in operations:
            continue
        sizes = dict(zip("nchw", problem.shape, strict=True), kernel_size=problem.kernel_size)
        kind = {"dtype": problem.type_name, "layout": problem.layout}
        row = Row(
            **{"problem": problem.name, "operation": operation, **kind, **sizes},
            threads=task.threads,
            contender=measured.contender,
            status=measured.status,
            note=measured.note,
            error=measured.error,
        )
        samples = measured.samples.get(operation, [])
        if measured.status == "ok" and samples:
            row.samples = len(samples)
            row.ms, row.ms_p20, row.ms_p80 = spread(samples)
            row.gb_per_s = problem.bytes(operation) / row.ms / 1e6
            row.tflop_per_s = problem.flops(operation) / row.ms / 1e9
            row.roof = roof.ms(problem, operation) / row.ms
            row.memory = measured.memory[operation]
        rows.append(row)
    return rows


def spread(samples: list[float]) -> tuple[float, float, float]:
    """Return the median, the 20th and the 80th percentile of the samples."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)]


def fill_ratios(rows: list[Row]) -> None:
    """Fill in `over_unfold` and `over_best_other`, comparing the rows of each case."""
    timed = [row for row in rows if row.ms is not None]
    for row in timed:
        others = {other.contender: other.ms for other in timed if other.case == row.case and not other.ours}
        others.pop(row.contender, None)
        if row.contender == BASELINE:
            row.over_unfold = 1.0
        elif BASELINE in others:
            row.over_unfold = others[BASELINE] / row.ms
        if others:
            row.over_best_other = min(others.values()) / row.ms
