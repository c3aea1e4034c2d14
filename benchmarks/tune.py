"""Finds the fastest launch on the GPU at hand: the candidates of csrc/cuda/launches.csv are forced in turn and timed.

The result is rows of that table with their times, for whoever edits it or the model that ranks them.
"""

import csv
import ctypes
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import torch

from benchmarks.checks import error, tolerance
from benchmarks.measure import Clock
from benchmarks.problems import Problem
from svconv.precision import asks_for_tf32

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "csrc" / "cuda" / "launches.csv"
PATHS = ("generic", "fma", "band", "tf32")
PRODUCTS = ("forward", "grad_input", "grad_weight")


@dataclass(frozen=True)
class Launch:
    """Which kernel runs and how its work is cut into blocks: `Launch` of csrc/cuda/kernels.h."""

    path: str
    columns: int
    rows: int
    splits: int  # of the channels among blocks, in sums
    parts: int  # of a block's warps, each with other channels, in the gradient
    stages: int


@dataclass(frozen=True)
class Candidate:
    """A row of csrc/cuda/launches.csv: the cut of a block, whose warps share their tile in `parts`."""

    path: str
    product: str  # "sums" or "gradient"
    columns: int
    rows: int
    parts: int
    stages: int

    def launch(self, splits: int = 1) -> Launch:
        """The launch of this row; `splits`: parts of the channels among blocks, in sums."""
        return Launch(self.path, self.columns, self.rows, splits, self.parts, self.stages)


def table() -> list[Candidate]:
    """The rows of csrc/cuda/launches.csv."""
    lines = (line.rstrip().rstrip(",") for line in TABLE.read_text().splitlines() if not line.startswith("//"))
    rows = csv.reader(lines, skipinitialspace=True)
    return [Candidate(path, product, *map(int, cut)) for path, product, *cut in rows]


@dataclass(frozen=True)
class Timed:
    """The time of a launch (None: the table's own choice); `ms` is None where it can't run, and `note` says why."""

    launch: Launch | None
    ms: float | None
    note: str = ""


def candidates(problem: Problem, product: str) -> list[Launch]:
    """The launches of the table for the product; where the grid splits the channels, one for each number of parts."""
    path, largest = "band", 13
    if problem.dtype == torch.float32:
        path, largest = "tf32" if asks_for_tf32() and problem.kernel_size >= 5 else "fma", 9
    if not 3 <= problem.kernel_size <= largest:
        return []
    chunks = -(-problem.shape[1] // 32)
    kind = "gradient" if product == "grad_weight" else "sums"
    splits = [count for count in (1, 2, 4, 8) if count <= chunks and (count == 1 or kind == "sums")]
    rows = [row for row in table() if (row.path, row.product) == (path, kind)]
    return [row.launch(count) for row in rows for count in splits]


@cache
def library() -> ctypes.CDLL:
    """The operators `torch.ops.svconv_tuning` and `svconv_force_launch`, which a build leaves in its folder.

    Raises:
        RuntimeError: there is none under build/.
    """
    built = sorted(ROOT.glob("build/*/svconv_tuning.so"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise RuntimeError(
            f"tune: expected {ROOT}/build/*/svconv_tuning.so, got none; a build with CUDA kernels leaves it there: "
            "pip install --no-build-isolation --editable ."
        )
    torch.ops.load_library(str(built[-1]))
    return ctypes.CDLL(str(built[-1]))


@contextmanager
def forced(launch: Launch | None) -> Iterator[None]:
    """Have all products of `torch.ops.svconv_tuning` in this process run by this launch for the length of the block."""
    if launch:
        path, *cut = astuple(launch)
        library().svconv_force_launch((ctypes.c_int * 6)(PATHS.index(path), *cut))
    try:
        yield
    finally:
        library().svconv_force_launch(None)


def call_of(problem: Problem, product: str) -> Callable[[], torch.Tensor]:
    input, logits, grad_out = problem.tensors("cuda")
    options = (problem.kernel_size, 1, 1, True, False, asks_for_tf32())
    library()
    ops = torch.ops.svconv_tuning
    _, lse = ops.forward(input, logits, *options)
    return {
        "forward": lambda: ops.forward(input, logits, *options)[0],
        "grad_input": lambda: ops.grad_input(grad_out, logits, lse, *options),
        "grad_weight": lambda: ops.grad_weight(grad_out, input, logits, lse, *options),
    }[product]


def tune(problem: Problem, product: str, rounds: int = 30) -> list[Timed]:
    """Time the table's choice, which comes first, and all candidates, the fastest first; medians of calls in turns."""
    call, clock = call_of(problem, product), Clock("cuda")
    want = call().double()
    samples: dict[Launch | None, list[float]] = {None: []}
    failed = []
    for launch in candidates(problem, product):
        try:
            with forced(launch):
                found = error(call(), want)
        except RuntimeError as refused:
            failed.append(Timed(launch, None, str(refused).splitlines()[0]))
            continue
        if found <= tolerance(problem.dtype):
            samples[launch] = []
        else:
            failed.append(Timed(launch, None, f"wrong: {found:.1e} from the table's choice"))

    def timed(mark: Callable[[], None]) -> None:
        mark()
        call()
        mark()

    for _ in range(rounds):
        for launch, times in samples.items():
            with forced(launch):
                times += clock.time(timed)
    own, *others = (Timed(launch, statistics.median(times)) for launch, times in samples.items())
    return [own, *sorted(others, key=lambda timed: timed.ms), *failed]


def rows_of(timed: list[Timed], product: str) -> list[str]:
    """Write the launches as rows of launches.csv, below the time of its own choice."""
    own, *others = timed
    lines = [f"the table's choice: {own.ms:.4f} ms"]
    for row in others:
        launch, time = row.launch, f"{row.ms:.4f} ms" if row.ms else row.note
        kind = "gradient" if product == "grad_weight" else "sums"
        if kind == "sums":
            time = f"channels among {launch.splits} blocks: {time}"
        cut = f"{launch.columns}, {launch.rows}, {launch.parts}, {launch.stages}"
        lines.append(f"{launch.path}, {kind}, {cut},  // {time}")
    return lines
