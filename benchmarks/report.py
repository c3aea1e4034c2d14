"""Prints a run in a terminal, and as Markdown."""

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure
from benchmarks.results import Change, Results
from benchmarks.roofs import Roof
from benchmarks.rows import Row

_COLUMNS = (
    "contender",
    "threads",
    "ms (p20, p80)",
    "samples",
    "GB/s",
    "TFLOP/s",
    "% of roof",
    "memory MB",
    "x unfold",
    "x best other",
)


def print_results(console: Console, results: Results) -> None:
    print_roofs(console, results.roofs)
    print_rows(console, results.rows)
    print_figures(console, results.figures)


def print_banner(console: Console, banner: dict[str, object]) -> None:
    console.print(", ".join(f"{name} {value}" for name, value in banner.items()), style="bold", highlight=False)


def print_roofs(console: Console, roofs: list[Roof]) -> None:
    for roof in roofs:
        console.print(
            f"roof beside {roof.problem}, {roof.dtype}, {roof.threads} threads: "
            f"copy {roof.copy / 1e9:.1f} GB/s (read and written), product {roof.matrix / 1e12:.3f} TFLOP/s",
            highlight=False,
        )


def print_rows(console: Console, rows: list[Row]) -> None:
    """Print a table for each problem and operation, in the order of measurement."""

    def heading(row: Row) -> str:
        sizes = f"N C H W K = {row.n} {row.c} {row.h} {row.w} {row.kernel_size}"
        return f"{row.problem}: {row.operation}, {row.dtype}, {row.layout}, {sizes}"

    titles = dict.fromkeys(heading(row) for row in rows)
    for title in titles:
        table = Table(*_COLUMNS, title=title, title_justify="left", title_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in (row for row in rows if heading(row) == title):
            table.add_row(*_cells(row))
        console.print(table)
    for line in dict.fromkeys(f"{row.contender}: {row.status}: {row.note}" for row in rows if row.note):
        console.print(line, highlight=False, markup=False)


def _cells(row: Row) -> list[str]:
    if row.ms is None:
        return [row.contender, str(row.threads), row.status]
    return [
        row.contender,
        str(row.threads),
        f"{_digits(row.ms)} ({_digits(row.ms_p20)}, {_digits(row.ms_p80)})",
        str(row.samples),
        _digits(row.gb_per_s),
        _digits(row.tflop_per_s),
        f"{100 * row.roof:.1f}",
        _digits(row.memory / 1e6),
        _digits(row.over_unfold),
        _digits(row.over_best_other),
    ]


def _digits(value: float | None) -> str:
    """Write a number with three significant digits, or all digits left of the point where there are more."""
    if value is None:
        return "-"
    if abs(value) >= 1:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
    return f"{value:.2g}"


def print_figures(console: Console, figures: list[Figure]) -> None:
    """Print the figures whose rows were measured."""
    known = [figure for figure in figures if figure.value is not None]
    if not known:
        return
    table = Table("figure", "value", "bar", "met")
    for figure in known:
        met = "[green]yes" if figure.met else "[red]no"
        table.add_row(figure.name, _digits(figure.value), f"{figure.relation} {figure.bar:g}", met)
    console.print(table)


def markdown(results: Results) -> str:
    """Return the tables of docs/benchmarks.md: the rows timed with the largest number of threads, then the figures."""
    banner = results.banner
    most = max((row.threads for row in results.rows), default=1)
    lines = [
        f"{banner['device']}, {most} threads, {banner['instruction_set']}, torch {banner['torch']}; "
        f"medians (20th, 80th percentile), {str(banner['date'])[:10]}:",
        "",
    ]
    rows = [row for row in results.rows if row.ms is not None and row.threads == most]
    lines += table(
        ("operation", "type, layout", "N, C, H, W; K", "contender", "ms", "% of roof", "memory MB", "x unfold"),
        [
            (
                row.operation,
                f"{row.dtype}, {row.layout}",
                f"{row.n}, {row.c}, {row.h}, {row.w}; {row.kernel_size}",
                row.contender,
                f"{_digits(row.ms)} ({_digits(row.ms_p20)}, {_digits(row.ms_p80)})",
                f"{100 * row.roof:.1f}",
                _digits(row.memory / 1e6),
                _digits(row.over_unfold),
            )
            for row in rows
        ],
    )
    if any(figure.value is not None for figure in results.figures):
        lines += ["", *figures_table(results.figures)]
    return "\n".join(lines) + "\n"


def figures_table(figures: list[Figure]) -> list[str]:
    """Return the lines of the figures that have a value."""
    known = [figure for figure in figures if figure.value is not None]
    rows = [(f.name, _digits(f.value), f"{f.relation} {f.bar:g}", "yes" if f.met else "**no**") for f in known]
    return table(("figure", "value", "bar", "met"), rows)


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heading, ("---",) * len(heading), *rows)]


def print_changes(console: Console, changes: list[Change]) -> None:
    if not changes:
        console.print("nothing changed beyond noise")
        return
    table = Table("problem", "operation", "threads", "contender", "before ms", "after ms", "times as long")
    for change in changes:
        row, style = change.after, "red" if change.worse else "green"
        after = row.status if row.ms is None else _digits(row.ms)
        ratio = "-" if change.ratio is None else f"{change.ratio:.2f}"
        cells = [row.problem, row.operation, str(row.threads), row.contender, _digits(change.before.ms), after, ratio]
        table.add_row(*cells, style=style)
    console.print(table)
