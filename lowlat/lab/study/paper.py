"""The paper's Tables 1 to 4, from the units of one ground."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from lowlat.lab.methods import METHODS
from lowlat.lab.study import measure, moving, timing
from lowlat.lab.study.grounds import Ground
from lowlat.lab.study.parts import Row, RowsOf, Unit
from lowlat.lab.study.published import PUBLISHED_SCHEDULES, PUBLISHED_STAGES
from lowlat.lab.study.rows import averaged, by_network, grouped, spread
from lowlat.lab.study.settings import INTERVAL


def _schedule_units(ground: Ground) -> dict[str, list[Unit]]:
    """Return the units of Table 1's accuracy by schedule, one a network."""
    delays = {name: (policy, ground.settings.delay if late else 0) for name, (policy, late) in moving.SCHEDULES.items()}
    return {
        name: [measure.schedule_unit(ground, which, policy, INTERVAL, delay) for which in ground.whiches()]
        for name, (policy, delay) in delays.items()
        if policy != "per-frame"
    }


def table1_units(ground: Ground) -> list[Unit]:
    units = [unit for units in _schedule_units(ground).values() for unit in units]
    return [measure.frames_unit(ground), timing.live_unit(ground), *units]


def table1(ground: Ground, rows: RowsOf) -> list[Row]:
    times = {row["schedule"]: row for row in rows(timing.live_unit(ground)) if "schedule" in row}
    (baseline,) = rows(measure.frames_unit(ground))

    def row(name: str, network: str, found: Sequence[Row]) -> Row:
        average, longest = PUBLISHED_SCHEDULES[name]
        figures = spread([row["miou"] for row in found])
        return {
            "data": ground.name,
            "schedule": name,
            "network": network,
            **figures,
            "drop": round(baseline["miou"] - figures["miou"], 2),
            **averaged(found, "pixel_accuracy"),
            **(averaged(found, "mean_interval", "mean_age") if "mean_age" in found[0] else {}),
            "average_ms": times[name]["average_ms"],
            "max_ms": times[name]["max_ms"],
            "published_average_ms": average,
            "published_max_ms": longest,
        }

    table = [row("per frame", "per frame", [baseline])]
    for name, units in _schedule_units(ground).items():
        found = [measured for unit in units for measured in rows(unit)]
        table += [row(name, network, group) for network, group in by_network(found)]
    return table


def _method_units(ground: Ground) -> list[Unit]:
    units = []
    for seed in range(ground.settings.seeds):
        for name in ground.methods():
            if METHODS[name].trained:
                units.append(measure.method_unit(ground, name, seed))
    return [measure.method_unit(ground, name, None) for name in ground.methods() if not METHODS[name].trained] + units


def table2_units(ground: Ground) -> list[Unit]:
    return [measure.frames_unit(ground), *_method_units(ground)]


def method_rows(ground: Ground, units: Sequence[Unit], rows: RowsOf, name: str) -> list[Row]:
    """Return one row a method or source of pairs: means over seeds, at the interval and by distance."""
    (baseline,) = rows(measure.frames_unit(ground))
    table = []
    for key, group in grouped((row for unit in units for row in rows(unit)), name):
        figures = spread([row["miou"] for row in group])
        at = {distance: round(mean(row["at"][distance] for row in group), 2) for distance in group[0]["at"]}
        table.append(
            {
                "data": ground.name,
                **key,
                **figures,
                "drop": round(baseline["miou"] - figures["miou"], 2),
                **averaged(group, "pixel_accuracy"),
                "mean_over_distances": round(mean(at.values()), 2),
                "min_over_distances": min(at.values()),
                "at": at,
            }
        )
    return table


def table2(ground: Ground, rows: RowsOf) -> list[Row]:
    (baseline,) = rows(measure.frames_unit(ground))
    first = {
        "data": ground.name,
        "method": "per frame",
        **spread([baseline["miou"]]),
        "drop": 0.0,
        "pixel_accuracy": baseline["pixel_accuracy"],
    }
    return [first, *method_rows(ground, _method_units(ground), rows, "method")]


def table3_units(ground: Ground) -> list[Unit]:
    return [timing.modules_unit(ground)]


def table3(ground: Ground, rows: RowsOf) -> list[Row]:
    modules = {row["module"]: row["ms"] for row in rows(timing.modules_unit(ground))}
    parts = [ms for name, ms in modules.items() if name.startswith("propagation: ")]
    whole = {name: modules[name] for name in ("S_l", "selector", "S_h")}
    whole["propagation"] = round(sum(parts), 3)
    table = []
    for name in ("S_l", "propagation", "selector", "S_h"):
        published = PUBLISHED_STAGES[name]
        table.append({"data": ground.name, "module": name, "ms": whole[name], "published_ms": published})
        if name == "propagation":
            table += [
                {"data": ground.name, "module": part, "ms": ms, "published_ms": None}
                for part, ms in modules.items()
                if part.startswith("propagation: ")
            ]
    total, published_total = whole["S_l"] + whole["S_h"], PUBLISHED_STAGES["S_l"] + PUBLISHED_STAGES["S_h"]
    return [
        {
            **row,
            "share": round(row["ms"] / total, 4),
            "published_share": row["published_ms"] and round(row["published_ms"] / published_total, 4),
        }
        for row in table
    ]


def table4_units(ground: Ground) -> list[Unit]:
    # Cityscapes keeps the labels of its test list.
    images = [measure.images_unit(ground)] if ground.tested else []
    return [*images, measure.frames_unit(ground)]


def table4(ground: Ground, rows: RowsOf) -> list[Row]:
    return [row for unit in table4_units(ground) for row in rows(unit)]
