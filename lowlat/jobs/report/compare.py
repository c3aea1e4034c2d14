"""The job behind `lowlat compare`: two runs of one kind side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lowlat.jobs.report.kinds import KINDS, Figure, lines_of, series_of, title_of
from lowlat.jobs.report.page import (
    document,
    film,
    films,
    flat,
    plain,
    plot_section,
    section,
    table,
    warnings,
    write_page,
)
from lowlat.jobs.report.read import Run, read_run
from lowlat.jobs.report.record import address, beside
from lowlat.video.files import SinkError


@dataclass(frozen=True)
class Comparison:
    """Two runs of one kind, with their figures and the differences between their settings and their machines."""

    first: Run
    second: Run
    names: tuple[str, str]
    """Short names that tell them apart."""

    @property
    def kind(self) -> str:
        """The kind of both runs: "demo", "latency" or "segment"."""
        return self.first.report["kind"]

    def differences(self, part: str) -> dict[str, tuple[Any, Any]]:
        """Return both values of each entry of "settings" or "machine" that differs, by name; None for a run without
        it."""
        first, second = flat(self.first.report[part]), flat(self.second.report[part])
        names = [*first, *(name for name in second if name not in first)]
        pairs = {name: (first.get(name), second.get(name)) for name in names}
        return {name: (left, right) for name, (left, right) in pairs.items() if left != right}

    def figures(self) -> list[tuple[Figure, float | None, float | None]]:
        """Return each figure with the values of both runs."""
        found = KINDS[self.kind].all
        return [(figure, figure.of(self.first.report), figure.of(self.second.report)) for figure in found]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; ``difference`` is the second value less the first, ``ratio`` the second over
        the first."""
        pair = ("first", "second")
        return {
            "kind": self.kind,
            "runs": dict(zip(pair, (self.first.named, self.second.named), strict=True)),
            **{
                part: {name: dict(zip(pair, both, strict=True)) for name, both in self.differences(part).items()}
                for part in ("settings", "machine")
            },
            "figures": {
                figure.path: {
                    "first": left,
                    "second": right,
                    "difference": None if None in (left, right) else round(right - left, 4),
                    "ratio": round(right / left, 4) if left and right is not None else None,
                }
                for figure, left, right in self.figures()
            },
        }


def compare(first: str | Path, second: str | Path, page: str | Path | None = None) -> Comparison:
    """Read two runs and compare them.

    Args:
        first, second: folders of runs, or their report.json.
        page: a file to write a page for a browser to; None for none.

    Raises:
        ValueError: no such runs, incomplete ones, or two of different kinds.
        SinkError: the page can't be written, or would take the place of a report.
    """
    one, other = read_run("compare", first), read_run("compare", second)
    kinds = [run.report["kind"] for run in (one, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"compare: expected two runs of one kind, got {one.named!r} of lowlat {kinds[0]} and {other.named!r} of "
            f"lowlat {kinds[1]}; their figures are not the same"
        )
    found = Comparison(one, other, _short_names(one.named, other.named))
    if page is not None:
        path = Path(page)
        if path.suffix.lower() not in (".html", ".htm"):
            raise SinkError(f"compare: expected a page as in compare.html, got {str(page)!r}; name an .html file")
        if any(path.resolve() == (run.folder / "report.html").resolve() for run in (one, other)):
            raise SinkError(f"compare: expected a page beside the runs' own, got {str(page)!r}; choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_page(path, compare_page(found, path.parent))
        except OSError as error:
            raise SinkError(
                f"compare: expected a file to write to, got {str(page)!r}: {error.strerror}; choose another with -o"
            ) from error
    return found


def comparison_tables(found: Comparison) -> list[Table]:
    """Make the tables for a terminal: what differs, then the figures."""
    made = []
    for part in ("settings", "machine"):
        if rows := _difference_rows(found, part):
            made.append(_rich(f"What differs: {part}", (part, *found.names), rows))
    made.append(_rich("Figures", ("", *found.names, "difference"), _figure_rows(found)))
    return made


def compare_page(found: Comparison, folder: str | Path) -> str:
    """Make the page of two runs.

    Args:
        folder: the folder that the page will be in.
    """
    runs = (found.first, found.second)
    series, lines = [], []
    for name, run in zip(found.names, runs, strict=True):
        series.append({**series_of(run.report)[0], "name": name})
        lines += [{**line, "name": f"{name}, {line['name']}"} for line in lines_of(run.report)]
    shown = [film(run.report, run.folder, folder, name) for name, run in zip(found.names, runs, strict=True)]
    body = [
        *(warnings(run.report, name) for name, run in zip(found.names, runs, strict=True)),
        section("What differs", _differences(found)),
        section("Figures", table("", ("figure", *found.names, "difference"), _figure_rows(found), number=True)),
        plot_section(series, lines),
        section("The labels", films(shown)),
        section("The runs", "".join(_link(name, run, folder) for name, run in zip(found.names, runs, strict=True))),
    ]
    title = f"{found.names[0]} and {found.names[1]}"
    return document(title, title, KINDS[found.kind].command, "\n".join(body), "Made by lowlat compare.", series, lines)


def _differences(found: Comparison) -> str:
    said = []
    for part, title in (("settings", "Settings"), ("machine", "Machine and versions")):
        rows = _difference_rows(found, part)
        said.append(table(title, ("what", *found.names), rows) if rows else f"<p>{title}: the same.</p>")
    return "".join(said)


def _difference_rows(found: Comparison, part: str) -> list[tuple[str, ...]]:
    return [(name, *map(plain, both)) for name, both in found.differences(part).items()]


def _figure_rows(found: Comparison) -> list[tuple[str, ...]]:
    rows = []
    for figure, left, right in found.figures():
        if left is None and right is None:
            continue
        rows.append((figure.name, figure.words(left), figure.words(right), _difference(figure, left, right)))
    return rows


def _difference(figure: Figure, left: float | None, right: float | None) -> str:
    """Return the second value less the first, with its sign, and in percent of the first if that makes sense."""
    if left is None or right is None:
        return "–"
    words = figure.words(right - left)
    if float(words.split()[0]) == 0:
        return "same"
    signed = words if words.startswith("-") else f"+{words}"
    if figure.unit == "%":
        return signed.replace("%", "points")
    return f"{signed} ({100 * (right - left) / left:+.0f} %)" if figure.unit == "ms" and left else signed


def _link(name: str, run: Run, folder: str | Path) -> str:
    what, facts = title_of(run.report)
    page = run.folder / "report.html"
    words = escape(name)
    if page.is_file():
        words = f'<a href="{address(beside(page, folder))}">{words}</a>'
    return f"<p>{words}: {escape(what)}, {escape(facts)}, made {escape(run.report['made_at'])}</p>"


def _rich(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title)
    for place, name in enumerate(header):
        made.add_column(Text(name), justify="left" if not place else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _short_names(first: str, second: str) -> tuple[str, str]:
    """Shorten two paths by the folders that both begin with and the name that both end with."""
    left, right = (_steps(path) for path in (first, second))
    if left == right:
        return f"{left[-1]}, first", f"{right[-1]}, second"
    while min(len(left), len(right)) > 1 and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    while min(len(left), len(right)) > 1 and left[0] == right[0]:
        left, right = left[1:], right[1:]
    return os.sep.join(left), os.sep.join(right)


def _steps(path: str) -> list[str]:
    steps = list(Path(os.path.abspath(path)).parts)
    return steps[:-1] if steps[-1] == "report.json" and len(steps) > 1 else steps
