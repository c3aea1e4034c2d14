"""Two pictures of a run of `lowlat latency`: how often each latency came, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from lowlat.runtime.result import FrameResult
from lowlat.runtime.words import counted
from lowlat.video.files import whole_file
from lowlat.video.plot import FAST, KEY, LANDED, WHOLE


def histogram_figure(results: Sequence[FrameResult], baseline_ms: Sequence[float], title: str) -> Figure:
    """Plot the histogram of the run's latencies and of the per-frame baseline's, both in ms."""
    figure, axes = _figure(title)
    latencies = [result.latency_ms for result in results]
    bins = _bins([*latencies, *baseline_ms])
    named = ((baseline_ms, WHOLE, "frame by frame, whole network"), (latencies, FAST, "low-latency schedule"))
    for values, colour, name in named:
        if values:
            weights = [100 / len(values)] * len(values)
            label = f"{name} ({counted(len(values), 'frame')})"
            axes.hist(values, bins, weights=weights, color=colour, alpha=0.75, label=label)
    axes.set(xlabel="latency, frame to labels (ms)", ylabel="frames", yscale="log", xlim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=2))
    axes.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def timeline_figure(results: Sequence[FrameResult], baseline_p50_ms: float, deadline_ms: float, title: str) -> Figure:
    """Plot latency in ms by frame index, with key frames, landings of S_h, the deadline and the baseline's median."""
    figure, axes = _figure(title)
    axes.plot(*_places(results), color=FAST, linewidth=0.7, label="latency")
    key, landed = [r for r in results if r.key], [r for r in results if r.landed is not None]
    marks = ((key, "o", KEY, "key frame"), (landed, "v", LANDED, "$S_h$ landed"))
    # Larger marks would hide the curve of a long run.
    size = 4 if len(results) <= 400 else 1.5
    for chosen, marker, colour, name in marks:
        style = {"marker": marker, "color": colour, "linestyle": "none", "markersize": size}
        axes.plot(*_places(chosen), **style, label=f"{name} ({len(chosen)})")
    axes.axhline(baseline_p50_ms, color=WHOLE, linewidth=1, linestyle=(0, (6, 4)), label="frame by frame, median")
    axes.axhline(deadline_ms, color="0.4", linewidth=0.9, linestyle=":", label="deadline")
    axes.set(xlabel="frame", ylabel="latency, frame to labels (ms)")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure as a PNG, which appears whole or not at all."""
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(10, 4.6), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _places(results: Sequence[FrameResult]) -> tuple[list[int], list[float]]:
    return [result.index for result in results], [result.latency_ms for result in results]


def _bins(values: Sequence[float]) -> list[float]:
    """Return the edges of 120 bins from 0 to just above the largest value."""
    top = max(values) * 1.02
    return [top * step / 120 for step in range(121)]
