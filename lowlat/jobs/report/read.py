"""Reads the report.json of a run, and says what is wrong with one that can't be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowlat.jobs.report.kinds import KINDS

LEFT_BY = "lowlat demo, lowlat latency and lowlat segment --report leave one"
# The fields that every frame of a report has beside its latencies.
_FRAME = {"index": int, "age": int, "key": bool, "degraded": bool, "startup": bool, "stages_ms": Mapping}


@dataclass(frozen=True)
class Run:
    """A run that has been read.

    Attributes:
        named: its name as the caller gave it.
        folder: the folder of its report and of the files beside it.
        report: the report's values, complete.
    """

    named: str
    folder: Path
    report: Mapping[str, Any]


def read_run(job: str, place: str | Path) -> Run:
    """Read the report of a run.

    Args:
        job: the command that asks, for the messages.
        place: the run's folder, or its report.json.

    Raises:
        ValueError: there is none, or it is damaged or incomplete.
    """
    path = Path(place)
    path = path / "report.json" if path.is_dir() else path
    told = f"{job}: expected a run's folder or its report.json, got {str(place)!r}"
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise ValueError(f"{told}, where there is no {path.name}; {LEFT_BY}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{told}, which is no text; {LEFT_BY}") from error
    except OSError as error:
        raise ValueError(f"{told}, which can't be read: {error.strerror}") from error
    try:
        report = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{told}, which is no whole JSON: {error}; run it again") from error
    kind = report.get("kind") if isinstance(report, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{told}, whose 'kind' is {kind!r} and none of {', '.join(KINDS)}; {LEFT_BY}")
    if wrong := _wrong(report):
        raise ValueError(f"{told}, which is incomplete: {wrong}; run it again")
    return Run(str(place), path.parent, report)


def _wrong(report: Mapping[str, Any]) -> str:
    """Return the first thing that a report lacks; empty if it is complete."""
    kind = KINDS[report["kind"]]
    for key in ("settings", "machine"):
        if not isinstance(report.get(key), dict):
            return f"expected an object {key!r}"
    for key in ("overlay", "picture", "trace"):
        if not isinstance(report.get(key, 0), (str, type(None))):
            return f"expected a path or null as {key!r}"
    for key in ("maps", "error", "notice"):
        if not isinstance(report.get(key), (str, type(None))):
            return f"expected words, null or nothing as {key!r}"
    for key, fits in {"missing": _is_number, "gaps": lambda gap: isinstance(gap, dict)}.items():
        found = report.get(key, [])
        if not isinstance(found, list) or not all(map(fits, found)):
            return f"expected a list, or nothing, as {key!r}"
    for key, types in {"made_at": str, "frames_left_out": int, kind.frames: list}.items():
        if not isinstance(report.get(key), types):
            return f"expected a {types.__name__} {key!r}"
    for name in kind.facts:
        if name not in report:
            return f"expected {name!r}"
    for figure in kind.all:
        try:
            value = figure.of(report)
        except (KeyError, TypeError):
            return f"expected a figure {figure.path!r}"
        if value is not None and not _is_number(value):
            return f"expected a number {figure.path!r}, got {value!r}"
    for row in report[kind.frames]:
        if wrong := _wrong_frame(row, [key for _, key in kind.series]):
            return f"{wrong} in a frame of {kind.frames!r}"
    return ""


def _wrong_frame(row: Any, latencies: list[str]) -> str:
    if not isinstance(row, dict):
        return f"expected an object, got {row!r}"
    for key, kind in _FRAME.items():
        if not isinstance(row.get(key), kind):
            return f"expected {key!r}"
    for key in latencies:
        if not _is_number(row.get(key)):
            return f"expected a number {key!r}"
    if not all(map(_is_number, row["stages_ms"].values())):
        return "expected numbers in 'stages_ms'"
    for key in ("time_s", "landed"):
        if key not in row or not (row[key] is None or _is_number(row[key])):
            return f"expected a number or null as {key!r}"
    return ""


def _is_number(value: Any) -> bool:
    """Whether a value is a number of the size that figures have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _no_number(word: str) -> float:
    raise ValueError(f"expected a number, got {word}")
