"""The paper's Table 3 and the runtime columns of its Table 1 in the paper's layout, ours beside theirs."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

PUBLISHED_STAGES = {"S_l": 61.0, "S_h": 299.0, "selector": 20.0, "propagation": 38.0}
"""Table 3, in ms a frame: published, not measured here."""
PUBLISHED_SCHEDULES = {
    "per frame": (360.0, 360.0),
    "fixed, every 5 frames": (151.2, 360.0),
    "adaptive": (171.2, 380.0),
    "adaptive, low-latency": (119.0, 119.0),
}
"""Average and maximum in ms, as they follow from Table 3 under the paper's schedules: published, not measured here."""


@dataclass(frozen=True)
class PaperTables:
    """Our side of both tables, in ms. What was not run is missing."""

    stages: dict[str, float]
    schedules: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON: ours and the published ones."""
        return {
            "table3_ms": {
                name: {"ours": self.stages.get(name), "published": published}
                for name, published in PUBLISHED_STAGES.items()
            },
            "table1_ms": {
                name: {
                    "ours_average": self.schedules.get(name, (None, None))[0],
                    "ours_max": self.schedules.get(name, (None, None))[1],
                    "published_average": average,
                    "published_max": longest,
                }
                for name, (average, longest) in PUBLISHED_SCHEDULES.items()
            },
        }


def rich_tables(tables: PaperTables, where: str) -> list[Table]:
    """Make both tables for a terminal; `where` says what ours were measured on."""
    third = Table(title=Text(f"Table 3: time of each module, ms (ours: {where})", style="table.title"))
    for column in ("module", "published", "ours"):
        third.add_column(column, justify="left" if column == "module" else "right")
    for name, published in PUBLISHED_STAGES.items():
        third.add_row(name, f"{published:.0f}", _ms(tables.stages.get(name)))
    first = Table(title="Table 1, runtime columns, ms")
    for column in ("schedule", "average, published", "maximum, published", "average, ours", "maximum, ours"):
        first.add_column(column, justify="left" if column == "schedule" else "right")
    for name, published in PUBLISHED_SCHEDULES.items():
        ours = tables.schedules.get(name, (None, None))
        first.add_row(name, *(f"{ms:.0f}" for ms in published), *(_ms(ms) for ms in ours))
    return [third, first]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
