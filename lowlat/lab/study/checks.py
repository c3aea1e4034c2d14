"""The claims that the study checks on its tables: each with its bar, the figure found, and whether it holds.

The claims are about the network given, where there is one, else about the ones that the study trained.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from statistics import mean

from lowlat.lab.methods import OURS
from lowlat.lab.study.parts import Row
from lowlat.lab.study.published import PUBLISHED_DROP

Tables = Mapping[str, list[Row]]

PER_FRAME_MIOU = 63.0
PIXEL_ACCURACY = 91.0
"""The least figures of the per-frame network on CamVid's test list, percent."""
LEAD = 3.0
"""The least lead of our method over the best of `WITHOUT_MOTION`, in mIoU points."""
WITHOUT_MOTION = ("reuse", "unified", "image-difference")
LOW_LATENCY_COST = 1.5
"""The most that low-latency may lie below adaptive blocking, in mIoU points."""
DROP = 4.0
"""The most that low-latency may lie below per frame, in mIoU points; the paper's drop was 4.3."""
CORRELATION = 0.7
"""The least Pearson correlation of predicted and true deviation."""
RATE = 0.15
"""Mean intervals that differ by no more than this share of one of them count as equal."""


def checks(tables: Tables) -> list[Row]:
    """Return rows ``{"data", "claim", "bar", "value", "held"}``; claims whose tables are missing are left out."""
    rows: list[Row] = []
    for name, make in _CHECKS.items():
        if tables.get(name):
            for data in dict.fromkeys(row["data"] for row in tables[name]):
                mine = [row for row in tables[name] if row["data"] == data]
                rows += [{"data": data, **row} for row in make(mine)]
    return rows


_HOLDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le}


def _claim(claim: str, value: float | None, sign: str, bar: float) -> Row:
    # The rounded figure is judged, since it is the one that is printed.
    value = None if value is None else round(value, 2)
    held = value is not None and _HOLDS[sign](value, bar)
    return {"claim": claim, "bar": f"{sign} {bar:g}", "value": value, "held": held}


def _preferred(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the network given; if none is given, those of the trained ones."""
    rows = list(rows)
    return [row for row in rows if row["network"] == "given"] or rows


def _table4(rows: list[Row]) -> list[Row]:
    # These two bars are for CamVid's classes and its test list.
    if rows[0]["data"] != "camvid":
        return []
    (test,) = [row for row in rows if row["split"] == "test"]
    return [
        _claim("per frame, test: mIoU", test["miou"], ">=", PER_FRAME_MIOU),
        _claim("per frame, test: pixel accuracy", test["pixel_accuracy"], ">=", PIXEL_ACCURACY),
    ]


def _table2(rows: list[Row]) -> list[Row]:
    miou = {row["method"]: row["miou"] for row in rows if row["method"] != "per frame"}
    ours = miou.pop(OURS, None)
    # Exact flow is an upper bound of warping rather than a rival: real video does not come with it.
    miou.pop("exact-flow", None)
    if ours is None or not miou:
        return []
    best = max(miou, key=miou.get)
    simple = [miou[name] for name in WITHOUT_MOTION if name in miou]
    name = "adaptive propagation with fusion, interval 5: mIoU over"
    claims = [_claim(f"{name} the next best ({best})", ours - miou[best], ">", 0)]
    if simple:
        claims.append(_claim(f"{name} the best of {', '.join(WITHOUT_MOTION)}", ours - max(simple), ">=", LEAD))
    return claims


def _table1(rows: list[Row]) -> list[Row]:
    found = {row["schedule"]: row for row in _preferred(row for row in rows if row["schedule"] != "per frame")}
    blocking, late = found["adaptive"], found["adaptive, low-latency"]
    cost = blocking["miou"] - late["miou"]
    return [
        _claim("low-latency below adaptive blocking: mIoU", cost, "<=", LOW_LATENCY_COST),
        _claim(f"low-latency below per frame: mIoU (published: {PUBLISHED_DROP:g})", late["drop"], "<=", DROP),
    ]


def _figure5(rows: list[Row]) -> list[Row]:
    rows = _preferred(rows)
    claims = []
    for policy in ("adaptive", "accumulated"):
        for other in ("every", "threshold"):
            gains = equal_rate_gains(rows, policy, other)
            gain = mean(gains) if gains else None
            claims.append(_claim(f"{policy} over {other} at equal key frame rate: mIoU, mean", gain, ">", 0))
    return claims


def equal_rate_gains(rows: Iterable[Row], policy: str, other: str) -> list[float]:
    """Return the mIoU of a schedule above another's, at each interval where the other really has about its rate.

    The other's accuracy at the first one's own mean interval is read off its curve, linearly.
    """
    rows = list(rows)
    curve = sorted((row["mean_interval"], row["miou"]) for row in rows if row["policy"] == other)
    gains = []
    for row in rows:
        if row["policy"] != policy or not curve:
            continue
        place = row["mean_interval"]
        nearest = min(curve, key=lambda point: abs(point[0] - place))
        if abs(nearest[0] - place) <= RATE * place:
            gains.append(row["miou"] - _read_off(curve, place))
    return gains


def _read_off(curve: list[tuple[float, float]], place: float) -> float:
    below = [point for point in curve if point[0] <= place]
    above = [point for point in curve if point[0] >= place]
    if not below or not above:
        return (above or below[::-1])[0][1]
    (x0, y0), (x1, y1) = below[-1], above[0]
    return y0 if x1 == x0 else y0 + (y1 - y0) * (place - x0) / (x1 - x0)


def _figure3(rows: list[Row]) -> list[Row]:
    value = mean(row["pearson"] for row in _preferred(rows))
    return [_claim("predicted and true deviation: Pearson", value, ">=", CORRELATION)]


_CHECKS = {"table4": _table4, "table2": _table2, "table1": _table1, "figure5": _figure5, "figure3": _figure3}
