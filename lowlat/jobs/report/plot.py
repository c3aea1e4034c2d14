"""The curves of runs as HTML and SVG that can be read without a script; page.js then moves them.

Every panel's SVG has frames along x and its own quantity upwards along y, so that zooming is another `viewBox`, while
strokes keep their width. Words stand beside the SVG as HTML, so that they keep their size too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from lowlat.runtime.words import counted

EVENTS = {
    "key": "key frames",
    "landed": "S_h landed",
    "degraded": "degraded",
    "dropped": "dropped",
}
"""The rows of marks below the curves."""


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most ``most``."""
    room = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(room))
    step = next(step * power for step in (1, 2, 5, 10, 20) if step * power >= room)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 6) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(series: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> str:
    """Make the panels: latency, age, and rows of marks, with a legend.

    Args:
        series: curves in columns, as `kinds.series_of` makes them.
        lines: level lines, as `kinds.lines_of` makes them.
    """
    low, high = extent(series)
    whole = [(number, one) for number, one in enumerate(series) if "age" in one]
    shown = [ms for one in series for ms in steady(one)[1]]
    top = 1.06 * max([*shown, *(line["ms"] for line in lines)], default=1.0) or 1.0
    curves = [_level(line, low, high) for line in lines]
    curves += [_curve(f"s{number}", *steady(one)) for number, one in reversed(list(enumerate(series)))]
    panels = [_panel("latency", "Latency, ms", low, high, top, curves)]
    oldest = max([age for _, one in whole for age in one["age"]], default=0)
    ages = [_curve(f"s{number}", *zip(*_ages(one), strict=True)) for number, one in reversed(whole) if _ages(one)]
    panels.append(_panel("age", "Age of features, frames", low, high, 1.1 * oldest + 0.4, ages))
    for event, name in EVENTS.items():
        for number, one in whole:
            places = event_places(one, event)
            of = f", {escape(one['name'])}" if len(whole) > 1 else ""
            panels.append(_marks(f"{name}{of}: {len(places)}", f"{event} s{number}", low, high, places))
    along = "".join(
        f'<span style="left:{100 * (at - low) / (high - low):.3f}%">{at:g}</span>' for at in ticks(low, high, 8)
    )
    return (
        f'<div class="stack" id="stack" role="img" aria-label="{escape(described(series, lines))}">{"".join(panels)}'
        f'<div class="along" id="along">{along}</div>'
        '<div class="cursor" id="cursor" hidden></div><div class="selection" id="selection" hidden></div></div>'
        f'<p class="axis">frame</p>{_legend(series, lines)}'
    )


def extent(series: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the first and the last frame of all curves, each with half a frame more."""
    places = [at for one in series for at in (one["index"][:1] + one["index"][-1:])] or [0]
    return min(places) - 0.5, max(places) + 0.5


def steady(one: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Return the frames and latencies without start-up, beside which all others would look like zero."""
    kept = [
        (at, ms) for at, ms, first in zip(one["index"], one["latency_ms"], one["startup"], strict=True) if not first
    ]
    return [at for at, _ in kept], [ms for _, ms in kept]


def event_places(one: dict[str, Any], event: str) -> list[int]:
    """Return the frames that get a mark for this event; start-up gets none."""
    if event == "dropped":
        return one["dropped"]
    marks = zip(one["index"], one[event], one["startup"], strict=True)
    return [at for at, mark, first in marks if not first and mark is not None and mark is not False]


def described(series: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> str:
    """Describe the plot in words, for those who can't see it."""
    parts = []
    for one in series:
        ms = steady(one)[1]
        said = (
            f"{min(ms):.1f} to {max(ms):.1f} ms in {counted(len(ms), 'frame')}" if ms else "no frames behind start-up"
        )
        parts.append(f"{one['name']}: {said}")
    parts += [f"{line['name']}: {line['ms']:.1f} ms" for line in lines]
    return f"Latency of every frame. {'; '.join(parts)}."


def _panel(name: str, title: str, low: float, high: float, top: float, curves: Sequence[str]) -> str:
    grid = "".join(
        f'<div class="level" style="bottom:{100 * at / top:.3f}%"><span>{at:g}</span></div>'
        for at in ticks(0, top, 6 if name == "latency" else 4)
    )
    return (
        f'<p class="name">{title}</p><div class="panel {name}" data-panel="{name}">'
        f'<div class="levels">{grid}</div>{_svg(low, high, top, curves)}</div>'
    )


def _marks(title: str, name: str, low: float, high: float, places: Sequence[int]) -> str:
    marks = [f'<path d="{"".join(f"M{at} 0V-1" for at in places)}"/>']
    return f'<p class="name">{title}</p><div class="panel marks {name}">{_svg(low, high, 1, marks)}</div>'


def _svg(low: float, high: float, top: float, inside: Sequence[str]) -> str:
    box = f"{low:g} {-top:.4f} {high - low:g} {top:.4f}"
    return f'<svg viewBox="{box}" preserveAspectRatio="none" aria-hidden="true">{"".join(inside)}</svg>'


def _curve(name: str, places: Sequence[int], values: Sequence[float]) -> str:
    points = "L".join(f"{at} {-value:.6g}" for at, value in zip(places, values, strict=True))
    # A line of length zero shows a single frame as a dot.
    return f'<path class="curve {name}" d="M{points}h0"/>' if points else ""


def _level(line: dict[str, Any], low: float, high: float) -> str:
    return f'<path class="line {line["kind"]}" d="M{low:g} {-line["ms"]:.6g}H{high:g}"/>'


def _ages(one: dict[str, Any]) -> list[tuple[int, int]]:
    return [(at, age) for at, age, first in zip(one["index"], one["age"], one["startup"], strict=True) if not first]


def _legend(series: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> str:
    items = [f'<li class="s{number}">{escape(one["name"])}</li>' for number, one in enumerate(series)]
    items += [f'<li class="{line["kind"]}">{escape(line["name"])}: {line["ms"]:.1f} ms</li>' for line in lines]
    return f'<ul class="legend">{"".join(items)}</ul>'
