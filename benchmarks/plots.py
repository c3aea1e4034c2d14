"""Draws the pictures of a run: time over C, H x W and K, and time over memory."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.results import Results
from benchmarks.rows import Row

# For each picture: the label of its x axis, the value on it, and what has to be the same for all its points.
_AXES: dict[str, tuple[str, Callable[[Row], int], Callable[[Row], tuple]]] = {
    "channels": ("channels C", lambda row: row.c, lambda row: (row.h, row.w, row.kernel_size)),
    "size": ("pixels H x W", lambda row: row.h * row.w, lambda row: (row.c, row.kernel_size)),
    "kernel": ("kernel size K", lambda row: row.kernel_size, lambda row: (row.c, row.h, row.w)),
}


def plot(results: Results, folder: Path, stem: str, operation: str = "forward") -> list[Path]:
    """Draw the float32, NCHW rows at the largest thread count as PNG files, and return the paths of those with rows."""
    timed = [row for row in results.rows if row.ms is not None and row.operation == operation]
    most = max((row.threads for row in timed), default=1)
    rows = [row for row in timed if (row.dtype, row.layout, row.threads) == ("float32", "NCHW", most)]
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{operation}, float32, NCHW, {most} threads, {results.banner['device']}"
    drawn = []
    for name, (label, value, rest) in _AXES.items():
        swept = _sweep(rows, value, rest)
        if swept:
            figure = _draw(_lines(swept, value), label, "ms", title)
            ticks = sorted({value(row) for row in swept})
            figure.axes[0].set_xticks(ticks, labels=ticks)
            figure.axes[0].set_xticks([], minor=True)
            drawn.append((name, figure))
    if rows:
        points = _lines([row for row in rows if row.memory], lambda row: row.memory / 1e6)
        drawn.append(("memory", _draw(points, "peak extra memory, MB", "ms", title, line=":")))
    paths = []
    for name, figure in drawn:
        paths.append(folder / f"{stem}-{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def _sweep(rows: list[Row], value: Callable[[Row], int], rest: Callable[[Row], tuple]) -> list[Row]:
    """Return the rows of the longest sweep, which differ in `value` only; none where no two rows do."""
    lengths = Counter(key for key, _ in {(rest(row), value(row)) for row in rows})
    if not lengths:
        return []
    key, length = lengths.most_common(1)[0]
    return [row for row in rows if rest(row) == key] if length > 1 else []


def _lines(rows: list[Row], value: Callable[[Row], float]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault(row.contender, []).append((value(row), row.ms))
    return {contender: sorted(points) for contender, points in lines.items()}


def _draw(lines: dict[str, list[tuple[float, float]]], x: str, y: str, title: str, line: str = "-") -> Figure:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for contender, points in lines.items():
        axes.plot(*zip(*points, strict=True), line, marker="o", label=contender)
    axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    return figure
