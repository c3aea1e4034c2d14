"""The kinds of runs that leave a report: which figures each has, what they are called, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes:
        name: what it is called.
        path: where it stands in the report, as in "low_latency.median_ms".
        unit: its unit, as in "ms"; may be empty.
        digits: how many digits are shown after the point.
    """

    name: str
    path: str
    unit: str = ""
    digits: int = 0

    def of(self, report: Mapping[str, Any]) -> Any:
        """Return its value in a report; ``KeyError`` if the report has none."""
        value: Any = report
        for step in self.path.split("."):
            value = value[step]
        return value

    def words(self, value: Any) -> str:
        """Return the value with its unit; a dash for None."""
        if value is None:
            return "–"
        number = f"{value:.{self.digits}f}"
        unit = "frame" if (number, self.unit) == ("1", "frames") else self.unit
        return f"{number} {unit}" if unit else number


@dataclass(frozen=True)
class Kind:
    """What the page of a kind of runs shows.

    Attributes:
        command: the command that makes such runs.
        frames: the key of the list of frames.
        series: the runs in that list, each with its name and the key of its latencies. The first run is the one with
            key frames, landings and ages.
        lines: level lines of the plot, each with its name, the path of its ms, and its kind, "baseline" or "bound".
        first: the figures that stand at the top.
        figures: all other figures.
        facts: paths of the facts in a title.
    """

    command: str
    frames: str
    series: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, str, str], ...]
    first: tuple[Figure, ...]
    figures: tuple[Figure, ...]
    facts: tuple[str, ...]

    @property
    def all(self) -> tuple[Figure, ...]:
        """All figures, `first` first."""
        return (*self.first, *self.figures)


def _summary(prefix: str = "", run: str = "") -> tuple[Figure, ...]:
    """Return the figures of a run's `Summary` that count things."""
    counts = {
        "key frames": "key_frames",
        "landings of S_h": "landings",
        "frames degraded": "degraded",
        "failures of S_h": "failures",
    }
    return (
        *(Figure(f"{name}{run}", f"{prefix}{path}") for name, path in counts.items()),
        Figure(f"landing delay, median{run}", f"{prefix}landing_delay_frames", "frames", 1),
        Figure(f"landing delay, longest{run}", f"{prefix}landing_delay_max", "frames"),
    )


_WHOLE = ", frame by frame"

KINDS = {
    "demo": Kind(
        command="lowlat demo",
        frames="frames",
        series=(("low-latency", "low_latency_ms"), ("frame by frame", "frame_by_frame_ms")),
        lines=(("frame by frame, median", "frame_by_frame.median_ms", "baseline"),),
        first=(
            Figure("median latency", "low_latency.median_ms", "ms", 1),
            Figure("longest latency", "low_latency.max_ms", "ms", 1),
            Figure("longest over frame-by-frame median", "max_over_median", "", 2),
            Figure("agreement with frame by frame", "agreement_percent", "%", 1),
            Figure("frames", "low_latency.frames"),
            Figure("frames dropped", "low_latency.dropped"),
        ),
        figures=(
            Figure("p99 latency", "low_latency.p99_ms", "ms", 1),
            Figure("start-up", "low_latency.startup_ms", "ms", 1),
            Figure(f"median latency{_WHOLE}", "frame_by_frame.median_ms", "ms", 1),
            Figure(f"p99 latency{_WHOLE}", "frame_by_frame.p99_ms", "ms", 1),
            Figure(f"longest latency{_WHOLE}", "frame_by_frame.max_ms", "ms", 1),
            Figure("median over frame-by-frame median", "median_ratio", "", 2),
            Figure("extra flicker", "extra_flicker_percent", "%", 2),
            *_summary("low_latency."),
        ),
        facts=("video", "width", "height", "device"),
    ),
    "latency": Kind(
        command="lowlat latency",
        frames="per_frame",
        series=(("latency", "latency_ms"),),
        lines=(
            ("frame by frame, median", "baseline_p50_ms", "baseline"),
            ("deadline", "deadline_ms", "bound"),
        ),
        first=(
            Figure("median latency", "p50_ms", "ms", 1),
            Figure("p99 latency", "p99_ms", "ms", 1),
            Figure("longest latency", "max_ms", "ms", 1),
            Figure("longest over frame-by-frame median", "max_over_baseline", "", 2),
            Figure("frames past the deadline", "deadline_misses"),
            Figure("frames", "frames"),
            Figure("frames dropped", "dropped"),
        ),
        figures=(
            Figure("p95 latency", "p95_ms", "ms", 1),
            Figure("start-up, longest", "startup_ms", "ms", 1),
            Figure(f"median latency{_WHOLE}", "baseline_p50_ms", "ms", 1),
            Figure(f"p99 latency{_WHOLE}", "baseline_p99_ms", "ms", 1),
            Figure("median over frame-by-frame median", "p50_over_baseline", "", 2),
            Figure("p99 over median", "p99_over_p50", "", 3),
            Figure("the same of a fixed computation", "control_p99_over_p50", "", 3),
            Figure("jitter", "jitter_ms", "ms", 2),
            Figure("deadline", "deadline_ms", "ms", 1),
            *_summary(),
            Figure("age of features, mean", "age_mean", "frames", 1),
            Figure("age of features, longest", "age_max", "frames"),
            Figure("fast track while S_h is idle", "fast_track_ms", "ms", 2),
            Figure("fast track beside S_h", "fast_track_beside_s_h_ms", "ms", 2),
            Figure("the second over the first", "slowdown", "", 3),
            Figure("host gap, median", "host_gap_p50_ms", "ms", 2),
            Figure("host gap, longest", "host_gap_max_ms", "ms", 2),
            Figure("growth of memory", "memory_growth_mb", "MB", 1),
        ),
        facts=("network", "source", "width", "height", "device", "isolation"),
    ),
    "segment": Kind(
        command="lowlat segment",
        frames="per_frame",
        series=(("latency", "latency_ms"),),
        lines=(("median", "median_ms", "baseline"), ("p99", "p99_ms", "bound")),
        first=(
            Figure("median latency", "median_ms", "ms", 1),
            Figure("p99 latency", "p99_ms", "ms", 1),
            Figure("longest latency", "max_ms", "ms", 1),
            Figure("frames", "frames"),
            Figure("frames dropped", "dropped"),
        ),
        figures=(Figure("start-up", "startup_ms", "ms", 1), *_summary()),
        facts=("input", "width", "height"),
    ),
}


def title_of(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run was of, and a line of facts about it."""
    kind = KINDS[report["kind"]]
    facts = [report[name] for name in kind.facts]
    where = kind.facts.index("width")
    size = f"{facts[where]}x{facts[where + 1]}"
    return str(facts[0]), ", ".join([kind.command, *map(str, facts[1:where]), size, *map(str, facts[where + 2 :])])


def series_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the curves of a run in columns, as the plot and the page's script take them; the first curve has all
    columns."""
    kind = KINDS[report["kind"]]
    rows, missing = report[kind.frames], set(report.get("missing", ()))
    index = [row["index"] for row in rows]
    there = {*index, *missing}
    made = []
    for number, (name, latency) in enumerate(kind.series):
        columns = {
            "name": name,
            "index": index,
            "latency_ms": [row[latency] for row in rows],
            "startup": [bool(row.get("startup", place == 0)) for place, row in enumerate(rows)],
        }
        if number == 0:
            columns |= {key: [row[key] for row in rows] for key in ("time_s", "age", "key", "landed", "degraded")}
            columns["stages_ms"] = [row["stages_ms"] for row in rows]
            columns["dropped"] = [at for at in range(index[0], index[-1]) if at not in there] if index else []
        made.append(columns)
    return made


def lines_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the level lines of a run's plot, each with name, ms and kind; those without a value are left out."""
    found = [
        {"name": name, "ms": Figure(name, path).of(report), "kind": line}
        for name, path, line in KINDS[report["kind"]].lines
    ]
    return [line for line in found if line["ms"] is not None]
