"""How it is printed."""

import torch
from rich.console import Console
from rich.table import Table

import svconv
from benchmarks.contenders import BASELINE
from benchmarks.measure import Timing
from benchmarks.problems import Problem


def print_banner(console: Console) -> None:
    info = svconv.build_info()
    console.print(
        f"svconv {info['version']}, {info['active_instruction_set']}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; time in ms: median (20th, 80th percentile)"
    )


def print_table(console: Console, results: list[tuple[Problem, Timing]]) -> None:
    table = Table("problem", "shape", "type", "layout", "direction", "contender", "ms", "GFLOP/s", "x unfold", "error")
    baseline = {(p.name, t.direction): t.median for p, t in results if t.contender == BASELINE}
    for problem, timing in results:
        products = 1 if timing.direction == "forward" else 3
        table.add_row(
            problem.name,
            "x".join(map(str, problem.shape)),
            str(problem.dtype).removeprefix("torch."),
            "nhwc" if problem.channels_last else "nchw",
            timing.direction,
            timing.contender,
            f"{timing.median:.2f} ({timing.low:.2f}, {timing.high:.2f})" if timing.correct else "wrong",
            f"{products * problem.flops / timing.median / 1e6:.1f}",
            f"{baseline[problem.name, timing.direction] / timing.median:.1f}",
            f"{timing.error:.1e}",
        )
    console.print(table)
