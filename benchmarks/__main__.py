"""`python -m benchmarks [run] [PROBLEM ...]`, `compare A.json B.json`, `plot`, `markdown`, `document`, `tune`"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperGroup

import svconv
from benchmarks import pages, report, results, rows
from benchmarks import tune as launches
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import figures
from benchmarks.measure import MOST, measure
from benchmarks.plots import plot as draw
from benchmarks.problems import FAMILIES, OPERATIONS, OURS, PRESETS, PROBLEMS, Group, Problem, groups_of
from benchmarks.report import print_banner, print_changes, print_results
from benchmarks.tune import PRODUCTS
from lowlat.video.files import whole_file

RESULTS = Path(__file__).with_name("results")
WIDTH = 150


class _Group(TyperGroup):
    """`run` is the default command; `--threads` and `--directions` take several values: `--threads 1 2`."""

    def parse_args(self, ctx, args):
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["run", *args]
        return super().parse_args(ctx, _repeat_options(args))


def _repeat_options(args: list[str]) -> list[str]:
    """Rewrite `--threads 1 2` as `--threads 1 --threads 2`; the same for `--directions`."""
    accepts = {"--threads": str.isdecimal, "--directions": OPERATIONS.__contains__}
    spread, option = [], None
    for arg in args:
        if option and spread[-1] != option and accepts[option](arg):
            spread.append(option)
        elif not (option and spread[-1] == option):
            option = arg if arg in accepts else None
        spread.append(arg)
    return spread


app = typer.Typer(cls=_Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.command()
def run(
    problems: Annotated[
        list[str] | None, typer.Argument(metavar="PROBLEM", help=f"Of {', '.join([*FAMILIES, *PROBLEMS])}.")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"Without a problem: {', '.join(PRESETS)}.")] = "quick",
    directions: Annotated[list[str] | None, typer.Option(help=f"By default all: {', '.join(OPERATIONS)}.")] = None,
    contenders: Annotated[
        list[str] | None, typer.Option("--contender", help=f"By default all: {', '.join(CONTENDERS)}.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="One or more; by default as many as cores.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")] = None,
    budget: Annotated[float, typer.Option(help="Seconds for the timing of a problem, checks apart.")] = 60,
    repetitions: Annotated[int, typer.Option(help="Samples of a contender at most.")] = MOST,
    out: Annotated[
        Path, typer.Option("--out", "-o", show_default="benchmarks/results", help="Folder for JSON and CSV.")
    ] = RESULTS,
    plots: Annotated[bool, typer.Option("--plots", help="Pictures too, as `plot` draws them.")] = False,
) -> None:
    """Measure, print, and write JSON and CSV."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    threads = threads or [torch.get_num_threads()]
    directions = tuple(_known(directions, OPERATIONS))
    chosen = {name: CONTENDERS[name] for name in _known(contenders, CONTENDERS)}
    groups = _groups(problems, preset, list(chosen), threads, directions)

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    kept = results.Results(results.banner(device, "-".join(problems or [preset])), [], [], [])
    print_banner(console, kept.banner)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(groups))
        for group in groups:
            name = group[0].problem.name
            found, roofs = measure(
                group, chosen, device, budget, repetitions, lambda now, name=name: _tell(progress, bar, name, now)
            )
            for measured in found:
                roof = roofs[measured.task.problem.dtype, measured.task.threads]
                kept.rows += rows.rows_of(measured, roof, directions)
            kept.roofs += roofs.values()
            rows.fill_ratios(kept.rows)
            kept.figures = figures(kept.rows, device)
            # A run that is stopped keeps what it has measured.
            results.save(kept, out)
            progress.advance(bar)
    path = results.save(kept, out)
    print_results(console, kept)
    console.print(f"{path}, and .csv", highlight=False, soft_wrap=True)
    if plots:
        draw(kept, out, path.stem, "forward")
    if any(row.status == "wrong" and row.ours for row in kept.rows):
        raise typer.Exit(1)


@app.command()
def compare(before: Path, after: Path) -> None:
    """Print what is slower or faster beyond noise; exit code 1 if anything is slower."""
    first, second = _load(before), _load(after)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if first.banner["device"] != second.banner["device"]:
        console.print(f"different devices: {first.banner['device']} and {second.banner['device']}")
    changes = results.compare(first, second)
    print_changes(console, changes)
    if any(change.worse for change in changes):
        raise typer.Exit(1)


@app.command()
def markdown(file: Path) -> None:
    """Print the rows and figures as the Markdown tables of docs/benchmarks.md."""
    print(report.markdown(_load(file)), end="")


@app.command()
def document() -> None:
    """Write the committed runs into the pages that show them."""
    for name in pages.PAGES:
        path = pages.ROOT / name
        before = path.read_text()
        after = pages.written(name, before)
        if after != before:
            path.write_text(after)
            print(name)


@app.command()
def plot(
    file: Path,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="By default the file's folder.")] = None,
    direction: Annotated[str, typer.Option(help=f"Of {', '.join(OPERATIONS)}.")] = "forward",
) -> None:
    """Draw time over C, H x W and K, and over memory, as PNG files."""
    (operation,) = _known([direction], OPERATIONS)
    for path in draw(_load(file), out or file.parent, file.stem, operation):
        print(path)


@app.command()
def tune(
    problems: Annotated[list[str], typer.Argument(metavar="PROBLEM...", help="As for `run`.")],
    products: Annotated[list[str] | None, typer.Option("--product", help=f"By default {', '.join(PRODUCTS)}.")] = None,
    rounds: Annotated[int, typer.Option(help="Timed calls of each launch.")] = 30,
    write: Annotated[bool, typer.Option("--write", help="Put the costs into csrc/cuda/costs.csv.")] = False,
) -> None:
    """Time the launches that csrc/cuda/launches.csv offers; print its rows, the fastest first, and what their
    work costs, as csrc/cuda/costs.csv has it. Needs a GPU."""
    obstacle = next(row.cuda for row in svconv.backends() if row.name == "cuda")
    if obstacle:
        raise typer.BadParameter(f"the CUDA kernels can't run: {obstacle}")
    products = _known(products, PRODUCTS)
    found = []
    for problem in _problems(problems):
        for product in products:
            print(f"{problem.name} {product}, {torch.cuda.get_device_name()}:")
            found.append(launches.tune(problem, product, rounds))
            print(*launches.rows_of(found[-1], product), sep="\n", flush=True)
    try:
        costs = launches.fit([row for timed in found for row in timed])
    except ValueError as unknown:
        print(f"no costs: {unknown}")
        raise typer.Exit(1 if write else 0) from None
    text = launches.costs_text(costs, torch.cuda.get_device_name())
    before = launches.read_costs()
    worst = [
        max(launches.loss(weights, timed) for timed in found if any(row.ms and row.work for row in timed))
        for weights in (before, costs)
    ]
    print(
        f"{launches.COSTS.name} makes choices that take {worst[0]:.2f} times the fastest at worst, this {worst[1]:.2f}:"
    )
    print(text)
    if write:
        with whole_file(launches.COSTS) as path:
            path.write_text(text)
        print(f"written to {launches.COSTS}; build again")


def _tell(progress: Progress, bar, name: str, doing: str) -> None:
    progress.update(bar, description=f"{name}: {doing}")


def _groups(
    problems: list[str] | None, preset: str, contenders: list[str], threads: list[int], directions: tuple[str, ...]
) -> list[Group]:
    # Presets ask for all backends of svconv by the one name "svconv".
    names = list(dict.fromkeys(OURS if name.startswith(f"{OURS} (") else name for name in contenders))
    if problems:
        return groups_of(_problems(problems), names, threads, directions)
    (name,) = _known([preset], PRESETS)
    groups = [
        [task for task in group if set(task.operations) & set(directions)] for group in PRESETS[name](names, threads)
    ]
    groups = [[task for task in group if task.contender in names] for group in groups]
    return [group for group in groups if group]


def _problems(names: list[str]) -> list[Problem]:
    """Return the problems that the names stand for, each name that of a problem or of a family of problems."""
    chosen: list[Problem] = []
    for name in _known(names, {**PROBLEMS, **FAMILIES}):
        chosen += FAMILIES.get(name, [PROBLEMS[name]] if name in PROBLEMS else [])
    return chosen


def _known(names: list[str] | None, table: Iterable[str]) -> list[str]:
    """Return the names that are keys of `table`, by default all of its keys; "svconv" is replaced by every backend.

    Raises:
        typer.BadParameter: a name that is no key.
    """
    expanded = []
    for name in names or table:
        backends = [key for key in table if key.startswith(f"{name} (")]
        if name not in table and not backends:
            raise typer.BadParameter(f"unknown {name!r}; expected one of {', '.join(table)}")
        expanded += [name] if name in table else backends
    return expanded


def _load(path: Path) -> results.Results:
    try:
        return results.load(path)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
