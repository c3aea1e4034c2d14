"""A latency report as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from lowlat.jobs.latency import LatencyReport
from lowlat.jobs.latency.paper import rich_tables
from lowlat.runtime.words import counted


def tables(report: LatencyReport) -> list[Table]:
    """Make the table of figures, then the paper's tables with ours beside theirs."""
    run, where = report.run, f"{report.network}, {report.width}x{report.height}, {report.dtype}, {report.device}"
    title = f"{where}, {report.isolation}, {report.fps:g} fps, {counted(run.frames, 'frame')}"
    # Names may hold what would be markup in a string.
    rows = Table(title=Text(title, style="table.title"), show_header=False)
    rows.add_column(justify="left")
    rows.add_column(justify="right")
    rows.add_column(justify="right")
    baseline = report.baseline_p50_ms
    rows.add_row("per-frame baseline, median", f"{baseline:.2f} ms", "1.00")
    for name in ("p50", "p95", "p99", "max"):
        ms = getattr(run, f"{name}_ms")
        rows.add_row(f"latency, {name}", f"{ms:.2f} ms", f"{ms / baseline:.3f}")
    rows.add_section()
    figures = {
        "p99 / p50": f"{run.p99_over_p50:.3f}",
        "p99 / p50 of a fixed computation": _or_none(report.control_p99_over_p50),
        "jitter": f"{run.jitter_ms:.2f} ms",
        f"deadline of {run.deadline_ms:.1f} ms missed": f"{run.deadline_misses}",
        "frames dropped": f"{report.dropped}",
        "S_h landings": f"{run.landings}",
        "landing delay, median / longest": f"{_or_none(run.landing_delay_frames)} / {_or_none(run.landing_delay_max)}"
        " frames",
        "age of features, mean / longest": f"{run.age_mean:.1f} / {counted(run.age_max, 'frame')}",
        "fast track beside S_h / alone": _or_none(run.slowdown),
        "host gap, median / longest": f"{run.host_gap_p50_ms:.2f} / {run.host_gap_max_ms:.2f} ms",
        "start-up, longest": f"{report.startup_ms:.1f} ms",
        "growth of memory": f"{report.memory_growth_mb:.1f} MB",
        **{name: f"{ms:.2f} ms" for name, ms in run.stages_ms.items()},
    }
    for name, value in figures.items():
        rows.add_row(name, value, "")
    if report.notice:
        rows.caption = Text(report.notice)
    return [rows, *rich_tables(report.tables, where)]


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
