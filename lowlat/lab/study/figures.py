"""The study's figures, drawn from its tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lowlat.lab.study.checks import Tables
from lowlat.lab.study.parts import Row
from lowlat.lab.study.rows import grouped
from lowlat.runtime.words import counted
from lowlat.video.latency_plot import write_figure

# Okabe and Ito's palette: told apart with any colour vision; markers say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vPX*"


def draw_figures(tables: Tables, folder: Path) -> dict[str, list[str]]:
    """Write every figure whose table is there, one PNG a ground; file names by table."""
    written: dict[str, list[str]] = {}
    for table, draw in _FIGURES.items():
        for key, rows in grouped((row for row in tables.get(table, []) if not row.get("published")), "data"):
            others = [row for row in tables[table] if row.get("published")]
            name = f"{_STEMS[table]}-{key['data']}.png"
            write_figure(folder / name, draw(rows + others))
            written.setdefault(table, []).append(name)
    return written


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _lines(axes: Axes, lines: Iterable[tuple[str, list[float], list[float], list[float] | None]]) -> None:
    for number, (name, x, y, spread) in enumerate(lines):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 5}
        axes.errorbar(x, y, spread, label=name, linewidth=1.3, capsize=2, **style)
    axes.legend(frameon=False, fontsize=8)


def _spreads(rows: list[Row]) -> list[float] | None:
    spreads = [row.get("spread") for row in rows]
    return None if None in spreads else spreads


def figure1(rows: list[Row]) -> Figure:
    """Draw accuracy over average time: ours filled, published points of other systems hollow."""
    figure, axes = _figure("Accuracy over time of a frame (different data and machines)", "ms a frame, average", "mIoU")
    axes.set_xscale("log")
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        face = "none" if row["published"] else colour
        label = f"{row['system']} ({row['data']}{', published' if row['published'] else ''})"
        axes.plot(
            row["average_ms"],
            row["miou"],
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            markersize=7,
            markerfacecolor=face,
            markeredgecolor=colour,
            label=label,
        )
    axes.legend(frameon=False, fontsize=7)
    return figure


def figure3(rows: list[Row]) -> Figure:
    """Draw predicted and true deviation over time, a key frame every ten frames."""
    row = rows[0]
    pairs = counted(row["pairs"], "pair")
    title = f"Deviation from the key frame, {row['data']}: Pearson {row['pearson']:.2f} over {pairs}"
    figure, axes = _figure(title, "frame", "share of pixels whose label changes")
    for number, name in enumerate(("true", "predicted")):
        x = [point["index"] for point in row["series"]]
        y = [point[name] for point in row["series"]]
        axes.plot(x, y, color=COLOURS[number], linewidth=1.3, marker=MARKERS[number], markersize=2.5, label=name)
    for key in dict.fromkeys(point["key"] for point in row["series"]):
        axes.axvline(key, color="0.85", linewidth=0.8, zorder=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def figure5(rows: list[Row]) -> Figure:
    """Draw accuracy over the mean key frame interval, by schedule."""
    figure, axes = _figure(f"Accuracy by schedule, {rows[0]['data']}", "mean key frame interval, frames", "mIoU")
    _lines(
        axes,
        (
            (f"{key['policy']} ({key['network']})", *_columns(group, "mean_interval", "miou"), _spreads(group))
            for key, group in grouped(rows, "policy", "network")
        ),
    )
    return figure


def distances(rows: list[Row]) -> Figure:
    """Draw accuracy by distance from the key frame, of each method or source of pairs."""
    name = "method" if "method" in rows[0] else "source"
    title = f"Accuracy by distance from the key frame, {rows[0]['data']}"
    figure, axes = _figure(title, "frames from the key frame", "mIoU")
    curves = [row for row in rows if "at" in row]
    _lines(axes, ((row[name], [int(d) for d in row["at"]], list(row["at"].values()), None) for row in curves))
    for row in rows:
        if "at" not in row:
            axes.axhline(row["miou"], color="0.5", linestyle="--", linewidth=1)
            axes.annotate(row[name], (0.99, row["miou"]), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    return figure


def _columns(rows: list[Row], *names: str) -> list[list[float]]:
    rows = sorted(rows, key=lambda row: row[names[0]])
    return [[row[name] for row in rows] for name in names]


_FIGURES = {"figure1": figure1, "figure3": figure3, "figure5": figure5, "table2": distances, "sources": distances}
_STEMS = {
    "figure1": "accuracy-over-time",
    "figure3": "deviation",
    "figure5": "schedules",
    "table2": "methods-by-distance",
    "sources": "sources-by-distance",
}
