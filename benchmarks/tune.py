"""Finds the fastest launch on the GPU at hand: the candidates of csrc/cuda/launches.csv are forced in turn and timed.

The result is rows of that table with their times, for whoever edits it, and the costs that the model of launch.cu ranks
them by (csrc/cuda/costs.csv), fitted to the times.
"""

import csv
import ctypes
import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.checks import error, tolerance
from benchmarks.measure import Clock
from benchmarks.problems import Problem
from svconv.precision import asks_for_tf32

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "csrc" / "cuda" / "launches.csv"
COSTS = ROOT / "csrc" / "cuda" / "costs.csv"
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
        """Return the launch of this row; `splits`: parts of the channels among blocks, in sums."""
        return Launch(self.path, self.columns, self.rows, splits, self.parts, self.stages)


def table() -> list[Candidate]:
    """Return the rows of csrc/cuda/launches.csv."""
    lines = (line.rstrip().rstrip(",") for line in TABLE.read_text().splitlines() if not line.startswith("//"))
    rows = csv.reader(lines, skipinitialspace=True)
    return [Candidate(path, product, *map(int, cut)) for path, product, *cut in rows]


@dataclass(frozen=True)
class Work:
    """What a launch's busiest multiprocessor has to do, as the model counts it: `Work` of csrc/cuda/kernels.h."""

    bytes: float
    exponentials: float
    chunks: float


@dataclass(frozen=True)
class Timed:
    """The time of a launch (None: the table's own choice); `ms` is None where it can't run, and `note` says why."""

    launch: Launch | None
    ms: float | None
    note: str = ""
    work: Work | None = None


def candidates(problem: Problem, product: str) -> list[Launch]:
    """Return the launches of the table for the product; where the grid splits the channels, one for each number of
    parts."""
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
    """Return the operators `torch.ops.svconv_tuning` and `svconv_force_launch`, which a build leaves in its folder.

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


def latest_work() -> Work:
    """Return the work of the latest product of `torch.ops.svconv_tuning` in this process."""
    numbers = (ctypes.c_double * 3)()
    library().svconv_latest_work(numbers)
    return Work(*numbers)


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
    works: dict[Launch | None, Work] = {}
    failed = []
    for launch in candidates(problem, product):
        try:
            with forced(launch):
                found = error(call(), want)
                works[launch] = latest_work()
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
    own, *others = (
        Timed(launch, statistics.median(times), work=works.get(launch)) for launch, times in samples.items()
    )
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


# A call takes some time however it is cut. costs.csv has no line for it, since it ranks nothing.
START = 1
FEWEST = 3 * (len(Work.__dataclass_fields__) + START)


def fit(timed: list[Timed]) -> Work:
    """Return the nanoseconds that one of each kind of work takes, none below zero, by which the times are met best: the
    sum of the squares of their relative errors is the least.

    Raises:
        ValueError: fewer than 12 launches have a time, or they don't tell the kinds of work apart.
    """
    known = [row for row in timed if row.ms and row.work]
    if len(known) < FEWEST:
        raise ValueError(
            f"tune.fit: expected times of {FEWEST} launches or more, got {len(known)}; name more problems or products"
        )
    counts = np.array([(*astuple(row.work), 1.0) for row in known])
    share = counts / (1e6 * np.array([[row.ms] for row in known]))
    size = np.abs(share).max(axis=0)
    size[size == 0] = 1
    share /= size
    if np.linalg.matrix_rank(share, tol=1e-6) < share.shape[1]:
        raise ValueError(
            "tune.fit: expected launches whose kinds of work differ, got counts that are in proportion; name problems "
            "of other sizes, layouts or channels"
        )
    best, least = None, np.inf
    # The best without a bound on some kinds and with zero of the others is the best of all, for one choice of them.
    for chosen in itertools.product((False, True), repeat=share.shape[1]):
        kinds = np.flatnonzero(chosen)
        found = np.zeros(share.shape[1])
        found[kinds] = np.linalg.lstsq(share[:, kinds], np.ones(len(known)), rcond=None)[0]
        off = np.square(share @ found - 1).sum()
        if (found >= 0).all() and off < least:
            best, least = found, off
    return Work(*map(float, (best / size)[:-START]))


def predicted(costs: Work, work: Work) -> float:
    """Return the nanoseconds of the work, but for those that a call takes however it is cut."""
    return sum(cost * count for cost, count in zip(astuple(costs), astuple(work), strict=True))


def loss(costs: Work, timed: list[Timed]) -> float:
    """Return how many times as long as the fastest launch the one takes that the costs rank first."""
    known = [row for row in timed if row.ms and row.work]
    first = min(known, key=lambda row: predicted(costs, row.work))
    return first.ms / min(row.ms for row in known)


def costs_text(costs: Work, device: str) -> str:
    """Return the text of costs.csv with these costs, measured on the device."""
    lines = [
        "// What launch.cu's model of a launch counts with, in nanoseconds. It includes this file as it is.",
        f"// Measured on {device} by `python -m benchmarks tune --write`.",
        "//",
        "// nanoseconds,  // for",
        *(f"{cost:.6g},  // {name.removesuffix('s')}" for name, cost in asdict(costs).items()),
    ]
    return "\n".join(lines) + "\n"


def read_costs() -> Work:
    """Return the costs that csrc/cuda/costs.csv holds."""
    rows = (line for line in COSTS.read_text().splitlines() if not line.startswith("//"))
    return Work(*(float(row.split(",")[0]) for row in rows))
