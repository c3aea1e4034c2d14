"""The study on disk: study.json, and a page of tables and pictures in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lowlat.lab.study.checks import Tables
from lowlat.lab.study.figures import draw_figures
from lowlat.lab.study.parts import Row
from lowlat.lab.study.strips import file_name
from lowlat.lab.study.tables import TABLES
from lowlat.video.files import whole_file

HIDDEN = ("series", "class_iou", "picture")
"""Columns that go into figures and study.json but into no table of the page."""
NOTES = {
    "table1": "mIoU of the labelled video in replay; times from a live run. Published times: the paper's network, "
    "2048x1024, a GPU. Low-latency's average leaves the background passes of S_h out, as published.",
    "table2": "A key frame every 5 frames, waited for: `miou` over the whole video; then over exact distances from the "
    "key frame. Mean over seeds, sample standard deviation.",
    "table3": "Each module by itself. `share`: of S_l and S_h together, a frame by the whole network.",
    "figure1": "Published points are of other data, other networks and other machines: they say where a system stands "
    "among its like, not beside ours.",
    "figure5": "Key frames waited for; thresholds set so that each schedule comes to about the interval asked for.",
    "streaming": "Frames arrive at `fps`; an output is compared with the truth of the frame that is newest when it is "
    "done, under the measured costs. What can't keep up goes on with the newest frame.",
    "consistency": "Visible pixels whose label agrees with the one their place had in the frame before, percent.",
    "sources": "Adaptive propagation with fusion, trained on pairs of one source alone; all else as in Table 2.",
}


def write(folder: Path, tables: Tables, found: list[Row], about: dict[str, Any]) -> None:
    """Write ``study.json``, ``README.md`` and the pictures; every file appears whole or not at all."""
    pictures = draw_figures(tables, folder)
    for row in tables.get("figure6", []):
        pictures.setdefault("figure6", []).append(file_name(row["data"]))
    _write(folder / "study.json", json.dumps({"about": about, "checks": found, **tables}, indent=1) + "\n")
    _write(folder / "README.md", markdown(tables, found, about, pictures))


def markdown(tables: Tables, found: list[Row], about: dict[str, Any], pictures: dict[str, list[str]]) -> str:
    """Return the page in Markdown: how the study was made, its claims, then the tables in order, each with its
    pictures."""
    page = ["# The study", "", *(f"- {name}: {_cell(value)}" for name, value in about.items()), ""]
    if found:
        page += ["## What must hold", "", *table(found), ""]
    for name, rows in tables.items():
        page += [f"## {name.capitalize()}: {TABLES[name].title.lower()}", ""]
        page += [NOTES[name], ""] if name in NOTES else []
        page += [*table(rows), ""] if rows else []
        page += [line for picture in pictures.get(name, []) for line in (f"![{TABLES[name].title}]({picture})", "")]
    return "\n".join(page).rstrip() + "\n"


def table(rows: list[Row]) -> list[str]:
    """Return the lines of a Markdown table, columns in order of first appearance; a mapping becomes a column for each
    key."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    numeric = [all(isinstance(row.get(name), (int, float, type(None))) for row in flat) for name in names]
    lines = [[name.replace("_", " ") for name in names], ["--:" if right else "---" for right in numeric]]
    lines += [[_cell(row.get(name)) for name in names] for row in flat]
    return [f"| {' | '.join(line)} |" for line in lines]


def _flat(row: Row) -> Row:
    flat: Row = {}
    for name, value in row.items():
        if name not in HIDDEN:
            flat.update({f"{name} {key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value})
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(inner)}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text)
