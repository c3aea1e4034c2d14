"""Measurements kept as they are made: a study that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowlat.files import whole_file

Row = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One measurement: what is done again, or not at all.

    Args:
        kind: what is measured.
        inputs: everything that the rows depend on, as plain values: weights by their hash, data, seeds, steps.
        compute: measures it; rows of plain values.
    """

    kind: str
    inputs: dict[str, Any]
    compute: Callable[[], list[Row]] = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.kind, self.inputs], sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        names = ("data", "source", "method", "schedule", "policy", "interval", "network", "seed")
        return ", ".join([self.kind, *(str(self.inputs[name]) for name in names if name in self.inputs)])


RowsOf = Callable[[Unit], list[Row]]
"""A unit's rows, kept or measured."""


class Parts:
    """A folder of finished units, one small JSON file each, named by what went into it."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.kind}-{unit.digest}.json"

    def __contains__(self, unit: Unit) -> bool:
        return self.path(unit).is_file()

    def rows(self, unit: Unit) -> list[Row]:
        """Kept, or measured and kept."""
        if unit not in self:
            began = time.perf_counter()
            part = {"kind": unit.kind, "inputs": unit.inputs, "rows": unit.compute()}
            part["seconds"] = round(time.perf_counter() - began, 2)
            with whole_file(self.path(unit)) as path:
                path.write_text(json.dumps(part, indent=1) + "\n")
        return self._read(unit)["rows"]

    def complete(self, units: Sequence[Unit]) -> bool:
        """Whether all of them are kept, and there are any: a ground without motion has none for `consistency`."""
        return bool(units) and all(unit in self for unit in units)

    def seconds(self, unit: Unit) -> float:
        """How long a kept unit took, with what it had to train or to look at first."""
        return self._read(unit)["seconds"]

    def _read(self, unit: Unit) -> dict[str, Any]:
        path = self.path(unit)
        try:
            part = json.loads(path.read_text())
            return {"rows": part["rows"], "seconds": part["seconds"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"study: expected a finished part at {path}, got a file that is none ({error}); remove it"
            ) from error
