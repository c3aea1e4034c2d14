"""From rows to rows: groups, means and spreads. For the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, stdev

import numpy as np

from lowlat.lab.study.parts import Row


def spread(values: Sequence[float]) -> Row:
    """Mean, sample standard deviation, how many."""
    deviation = round(stdev(values), 2) if len(values) > 1 else None
    return {"miou": round(mean(values), 2), "spread": deviation, "seeds": len(values)}


def grouped(rows: Iterable[Row], *names: str) -> list[tuple[Row, list[Row]]]:
    """Rows of equal ``names`` together, in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]


def averaged(rows: Sequence[Row], *names: str) -> Row:
    """Means over rows, of those columns that hold numbers in all of them."""
    found = {name: [row[name] for row in rows] for name in names}
    return {name: round(mean(column), 3) for name, column in found.items() if None not in column}


def by_network(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows of the network given, then those of the ones trained."""
    return [(key["network"], group) for key, group in grouped(rows, "network")]


def pearson(a: Iterable[float], b: Iterable[float]) -> float:
    """Correlation; 0 where one of the two never changes."""
    a, b = np.asarray(list(a), float), np.asarray(list(b), float)
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
