"""One picture of the latencies of two runs over the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lowlat.runtime.result import FrameResult
from lowlat.video.files import whole_file

# Colours of Okabe and Ito's palette can be told apart with any colour vision; markers and labels differ too.
WHOLE, FAST, KEY, LANDED = "#D55E00", "#0072B2", "#E69F00", "#009E73"


def latency_figure(
    whole: Sequence[FrameResult], fast: Sequence[FrameResult], title: str = "Latency of every frame"
) -> Figure:
    """Plot latency in ms by frame index: of the whole network frame by frame, and of the low-latency schedule.

    Start-up frames are left out. Key frames and landings of S_h are marked on the second run.
    """
    figure = Figure(figsize=(10, 4.6), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    runs = ((whole, WHOLE, "frame by frame, whole network"), (fast, FAST, "low-latency schedule"))
    for results, colour, name in runs:
        steady = [result for result in results if not result.startup]
        if not steady:
            continue
        middle = median(result.latency_ms for result in steady)
        axes.plot([r.index for r in steady], [r.latency_ms for r in steady], color=colour, linewidth=1.4, label=name)
        axes.axhline(middle, color=colour, linewidth=0.9, linestyle=(0, (6, 4)), alpha=0.7)
        axes.annotate(
            f"median\n{middle:.0f} ms", (1.0, middle), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", color=colour, fontsize=9, annotation_clip=False,
        )  # fmt: skip
    steady = [result for result in fast if not result.startup]
    marks = (
        ([r for r in steady if r.key], "o", KEY, "key frame"),
        ([r for r in steady if r.landed is not None], "v", LANDED, "$S_h$ landed"),
    )
    for results, marker, colour, name in marks:
        places = [r.index for r in results], [r.latency_ms for r in results]
        style = {"linestyle": "none", "markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.4}
        axes.plot(*places, marker=marker, color=colour, label=f"{name} ({len(results)})", **style)
    axes.set(xlabel="frame", ylabel="latency, frame to labels (ms)", title=title)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def write_latency_plot(path: str | Path, whole: Sequence[FrameResult], fast: Sequence[FrameResult], title: str) -> None:
    """Write :func:`latency_figure` as a PNG, which appears whole or not at all."""
    with whole_file(path) as part:
        latency_figure(whole, fast, title).savefig(part, format="png", metadata={"Title": title})
