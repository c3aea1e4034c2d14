"""Groups, means and spreads of rows, for the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, stdev

import numpy as np

from lowlat.lab.study.parts import Row


def spread(values: Sequence[float]) -> Row:
    """Return the columns of several seeds' mIoU: mean, sample standard deviation, how many."""
    deviation = round(stdev(values), 2) if len(values) > 1 else None
    return {"miou": round(mean(values), 2), "spread": deviation, "seeds": len(values)}


def grouped(rows: Iterable[Row], *names: str) -> list[tuple[Row, list[Row]]]:
    """Group the rows that are equal in columns ``names``: each group's values with its rows, in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]


def averaged(rows: Sequence[Row], *names: str) -> Row:
    """Return the means over rows of the columns ``names``, without those where a row holds None."""
    found = {name: [row[name] for row in rows] for name in names}
    return {name: round(mean(column), 3) for name, column in found.items() if None not in column}


def by_network(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows of each network by its name, the one given before those trained."""
    return [(key["network"], group) for key, group in grouped(rows, "network")]


def pearson(a: Iterable[float], b: Iterable[float]) -> float:
    """Return Pearson's correlation of two series; 0 if one of them never changes."""
    a, b = np.asarray(list(a), float), np.asarray(list(b), float)
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
