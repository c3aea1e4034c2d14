"""The tables and figures of the study: each with its units, and the function that makes its rows from theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lowlat.lab.methods import OURS
from lowlat.lab.study import measure, moving, strips, timing
from lowlat.lab.study.grounds import Ground
from lowlat.lab.study.paper import (
    method_rows,
    table1,
    table1_units,
    table2,
    table2_units,
    table3,
    table3_units,
    table4,
    table4_units,
)
from lowlat.lab.study.parts import Row, RowsOf, Unit
from lowlat.lab.study.published import SYSTEMS
from lowlat.lab.study.rows import averaged, grouped, spread


@dataclass(frozen=True)
class Table:
    """One table or figure.

    Args:
        title: one line.
        units: gives the units of one ground.
        rows: makes the rows of one ground from those of its units.
        trains: whether the study has to train something for it even where whole networks are given.
    """

    title: str
    units: Callable[[Ground], list[Unit]]
    rows: Callable[[Ground, RowsOf], list[Row]]
    trains: bool = False


def _deviation_units(ground: Ground) -> list[Unit]:
    return [moving.deviation_unit(ground, which) for which in ground.whiches()]


def _figure5_units(ground: Ground) -> list[Unit]:
    return [
        measure.schedule_unit(ground, which, policy, interval, 0)
        for which in ground.whiches()
        for policy in ("every", "threshold", "adaptive", "accumulated")
        for interval in ground.settings.intervals
    ]


def _figure5(ground: Ground, rows: RowsOf) -> list[Row]:
    found = (row for unit in _figure5_units(ground) for row in rows(unit))
    return [
        {
            "data": ground.name,
            **key,
            **spread([row["miou"] for row in group]),
            **averaged(group, "mean_interval", "pixel_accuracy"),
        }
        for key, group in grouped(found, "network", "policy", "interval")
    ]


def _figure1(ground: Ground, rows: RowsOf) -> list[Row]:
    ours = [
        {
            "data": ground.name,
            "system": f"{row['schedule']} ({row['network']})" if row["network"] != "per frame" else "per frame",
            "published": False,
            **{name: row[name] for name in ("miou", "average_ms", "max_ms")},
        }
        for row in table1(ground, rows)
    ]
    theirs = [
        {"data": f"Cityscapes {system.split}".strip(), "system": system.name, "published": True, "miou": system.miou}
        | {"average_ms": system.average_ms, "max_ms": None, "hardware": system.hardware, "source": system.publication}
        for system in SYSTEMS
    ]
    return ours + theirs


def _streaming_units(ground: Ground) -> list[Unit]:
    return [
        moving.streaming_unit(ground, which, name, timing.live_unit(ground))
        for which in ground.whiches()
        for name in moving.SCHEDULES
    ]


def _streaming(ground: Ground, rows: RowsOf) -> list[Row]:
    found = (row for unit in _streaming_units(ground) for row in rows(unit))
    names = ("latency_ms", "frames_late", "shown", "miou_of_its_frame", "streaming_miou")
    return [
        {"data": ground.name, **key, "fps": ground.settings.fps, **averaged(group, *names), "seeds": len(group)}
        for key, group in grouped(found, "schedule", "network")
    ]


def _consistency_units(ground: Ground) -> list[Unit]:
    return [moving.consistency_unit(ground, which) for which in ground.whiches()] if ground.has_flow else []


def _consistency(ground: Ground, rows: RowsOf) -> list[Row]:
    found = (row for unit in _consistency_units(ground) for row in rows(unit))
    return [
        {"data": ground.name, **key, **averaged(group, "consistency"), "seeds": len(group)}
        for key, group in grouped(found, "schedule", "network")
    ]


def _pair_source_units(ground: Ground) -> list[Unit]:
    return [
        measure.method_unit(ground, OURS, seed, pair_source)
        for seed in range(ground.settings.seeds)
        for pair_source in ground.pair_sources()
    ]


def _strip_units(ground: Ground) -> list[Unit]:
    return [strips.strip_unit(ground, ground.whiches()[0])]


def _all_rows(units: Callable[[Ground], list[Unit]]) -> Callable[[Ground, RowsOf], list[Row]]:
    return lambda ground, rows: [row for unit in units(ground) for row in rows(unit)]


TABLES = {
    "table1": Table("Accuracy, runtime and latency by schedule", table1_units, table1),
    "table2": Table("Methods of propagation", table2_units, table2, trains=True),
    "table3": Table("Time of each module", table3_units, table3),
    "table4": Table("The per-frame network", table4_units, table4),
    "figure1": Table("Accuracy over latency", table1_units, _figure1),
    "figure3": Table("Predicted and true deviation", _deviation_units, _all_rows(_deviation_units)),
    "figure5": Table("Accuracy over key frame interval", _figure5_units, _figure5),
    "figure6": Table("Pictures", _strip_units, _all_rows(_strip_units)),
    "streaming": Table("Accuracy at the time of completion", _streaming_units, _streaming),
    "consistency": Table("Temporal consistency along exact motion", _consistency_units, _consistency),
    "sources": Table(
        "What each source of pairs is worth",
        lambda ground: [measure.frames_unit(ground), *_pair_source_units(ground)],
        lambda ground, rows: method_rows(ground, _pair_source_units(ground), rows, "source"),
        trains=True,
    ),
}
