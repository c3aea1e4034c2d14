"""The paper's comparisons on data at hand: measured, kept, tabulated. `lowlat study` is a shell over :func:`study`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from lowlat.jobs.progress import progress_bar
from lowlat.lab.study import report
from lowlat.lab.study.about import machine, versions
from lowlat.lab.study.checks import checks
from lowlat.lab.study.grounds import TRAIN, Ground
from lowlat.lab.study.parts import Parts, Row, Unit
from lowlat.lab.study.settings import QUICK, QUICK_DATA, Settings
from lowlat.lab.study.tables import TABLES
from lowlat.runtime.options import find_device

__all__ = ["QUICK", "QUICK_DATA", "TABLES", "TRAIN", "Settings", "Study", "study"]


@dataclass(frozen=True)
class Study:
    """The results of a study: rows by table, claims with their bars, and how it was made."""

    tables: dict[str, list[Row]]
    checks: list[Row]
    about: dict[str, object]


def study(
    tables: Sequence[str] = (),
    *,
    data: Sequence[str] = (QUICK_DATA,),
    weights: Sequence[str] = (),
    out: str | Path = "study",
    settings: Settings = QUICK,
    clips: Sequence[str] = (),
    command: str = "",
    device: str | torch.device = "cpu",
    console: Console | None = None,
) -> Study:
    """Make tables and figures; measurements already in ``<out>/parts.jsonl`` are not made again.

    Args:
        tables: names from `TABLES`; none for all of them. The page also holds tables that were finished before under
            the same settings, clips, data and weights.
        data: the grounds, data sets of different kinds as `open_dataset` takes them.
        weights: a shipped network's name, a file, or ``"train"`` for each ground; the study trains those not given.
        out: a folder for ``study.json``, ``README.md`` and pictures.
        settings: how large the study is.
        clips: unlabelled videos, one more source of pairs to train on.
        command: the command line, for the page's header.
        device: where networks are trained and their accuracy is measured, ``"cpu"``, ``"cuda"``, ...; times are those
            of this machine's CPU on every device.
        console: where the progress bar goes; by default standard error.

    Raises:
        ValueError: no such table, data or weights, two grounds of a kind; with no seeds, a table that needs some.
        RuntimeError: no such GPU.
    """
    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise ValueError(
            f"study: expected tables among {', '.join(TABLES)}, got {', '.join(unknown)}; leave others out"
        )
    if len(weights) > len(data):
        raise ValueError(f"study: expected at most one --weights for each --data, got {len(weights)} for {len(data)}")
    device = find_device("study", device)
    began = time.perf_counter()
    out = Path(out)
    parts = Parts(out)
    chosen = [*weights, *[TRAIN] * (len(data) - len(weights))]
    grounds = [Ground(*ground, parts, settings, clips, device=device) for ground in zip(data, chosen, strict=True)]
    names = [ground.name for ground in grounds]
    if len(set(names)) < len(names):
        # Tables and figures tell grounds apart by their kind.
        raise ValueError(
            f"study: expected grounds of different kinds, got {', '.join(names)}; make a study of each, by --out"
        )
    possible = _possible(tables, grounds, settings)
    units = _units([name for name in possible if not tables or name in tables], grounds)
    with progress_bar(console) as progress:
        bar = progress.add_task("study", total=len(units))
        for unit in units:
            progress.update(bar, description=str(unit))
            parts.rows(unit)
            progress.advance(bar)
        progress.update(bar, description="study")
    finished = [name for name in possible if parts.complete(_units([name], grounds))]
    rows = {name: [row for ground in grounds for row in TABLES[name].rows(ground, parts.rows)] for name in finished}
    about = {
        "command": command,
        "machine": machine(),
        "versions": versions(),
        "data": {ground.name: ground.spec for ground in grounds},
        "weights": {ground.name: ground.weights for ground in grounds},
        "seconds": {name: round(sum(map(parts.seconds, _units([name], grounds))), 1) for name in finished},
        "seconds of this run": round(time.perf_counter() - began, 1),
    }
    result = Study(rows, checks(rows), about)
    report.write(out, result.tables, result.checks, result.about)
    return result


def _possible(asked: Sequence[str], grounds: Sequence[Ground], settings: Settings) -> list[str]:
    """Return the tables that can be made: all of them, or without seeds those about networks that were given whole.

    Raises:
        ValueError: no seeds, and a table asked for or a ground's network that has to be trained.
    """
    if settings.seeds:
        return list(TABLES)
    trained = [name for name in asked if TABLES[name].trains]
    trained += [f"{ground.name}'s weights" for ground in grounds if not ground.complete]
    if trained:
        raise ValueError(f"study: expected seeds of at least 1 for {', '.join(trained)}, got 0; something is to train")
    return [name for name in TABLES if not TABLES[name].trains]


def _units(names: Sequence[str], grounds: Sequence[Ground]) -> list[Unit]:
    """Return the units of several tables, each once, so ordered that one network after the other records the video."""
    units = {unit.digest: unit for ground in grounds for name in names for unit in TABLES[name].units(ground)}
    order = {ground.name: place for place, ground in enumerate(grounds)}

    def place(unit: Unit) -> tuple[int, bool, int]:
        return order.get(unit.inputs.get("data"), -1), "network" in unit.inputs, unit.inputs.get("seed", -1)

    return sorted(units.values(), key=place)
