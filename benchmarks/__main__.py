"""`python -m benchmarks [PROBLEM ...] [--repetitions N] [--threads N]`."""

import argparse

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import DIRECTIONS, measure
from benchmarks.problems import PROBLEMS
from benchmarks.report import print_banner, print_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of {', '.join(PROBLEMS)}; default: all")
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    unknown = set(arguments.problems) - set(PROBLEMS)
    if unknown:
        parser.error(f"unknown problem {', '.join(sorted(unknown))}; choose from {', '.join(PROBLEMS)}")
    torch.set_num_threads(arguments.threads)
    chosen = [PROBLEMS[name] for name in arguments.problems] or list(PROBLEMS.values())

    console = Console(width=140)
    results = []
    calls = len(chosen) * len(arguments.directions) * len(CONTENDERS) * (arguments.repetitions + 1)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=calls)
        for problem in chosen:
            for direction in arguments.directions:
                timings = measure(problem, direction, arguments.repetitions, lambda: progress.advance(task))
                results += [(problem, timing) for timing in timings]
    print_banner(console)
    print_table(console, results)


main()
