"""Measurements kept as they are made: a study that was killed goes on where it stopped."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

Row = dict[str, Any]


def _always(rows: list[Row]) -> bool:
    return True


@dataclass(frozen=True)
class Unit:
    """One measurement, which is made whole and kept, or made again.

    Args:
        kind: the kind of measurement.
        inputs: everything that the rows depend on, as plain values: weights by their hash, data, seeds, steps.
        compute: makes the measurement; gives rows of plain values.
        intact: says whether the files that kept rows belong to are there as they were written.
    """

    kind: str
    inputs: dict[str, Any]
    compute: Callable[[], list[Row]] = field(repr=False, compare=False)
    intact: Callable[[list[Row]], bool] = field(default=_always, repr=False, compare=False)

    @property
    def digest(self) -> str:
        return digest(self.kind, self.inputs)

    def __str__(self) -> str:
        names = ("data", "source", "method", "schedule", "policy", "interval", "network", "seed")
        return ", ".join([self.kind, *(str(self.inputs[name]) for name in names if name in self.inputs)])


def digest(kind: str, inputs: dict[str, Any]) -> str:
    """Return a hash of what a unit measures, whatever the order of its inputs."""
    return hashlib.sha256(json.dumps([kind, inputs], sort_keys=True).encode()).hexdigest()[:16]


RowsOf = Callable[[Unit], list[Row]]
"""A unit's rows, kept or measured."""


class Parts:
    """The finished units of a study, one JSON object a line in ``<folder>/parts.jsonl``, found by what went into them.

    A unit's line is written in one piece and is on the disk before the next unit begins: a kill loses at most the unit
    under way. A last line without its end, as a power failure may leave it, does not count and is cut off. Several
    processes may add to one file.

    Raises:
        ValueError: another line holds no unit.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "parts.jsonl"
        self._kept: dict[str, dict[str, Any]] = {}
        self._read, self._lines = 0, 0  # bytes and lines of the file that are in _kept

    def __contains__(self, unit: Unit) -> bool:
        kept = self._find(unit)
        return kept is not None and unit.intact(kept["rows"])

    def rows(self, unit: Unit) -> list[Row]:
        """Return a unit's rows: kept, or measured and kept."""
        if unit not in self:
            began = time.perf_counter()
            part = {"kind": unit.kind, "inputs": unit.inputs, "rows": unit.compute()}
            part["seconds"] = round(time.perf_counter() - began, 2)
            self._append(part)
        return self._find(unit)["rows"]

    def complete(self, units: Sequence[Unit]) -> bool:
        """Whether all of them are kept, and there are any: a ground without motion has none for `consistency`."""
        return bool(units) and all(unit in self for unit in units)

    def seconds(self, unit: Unit) -> float:
        """Return how long a kept unit took, with what it had to train or to look at first."""
        return self._find(unit)["seconds"]

    def _find(self, unit: Unit) -> dict[str, Any] | None:
        self._catch_up()
        return self._kept.get(unit.digest)

    def _catch_up(self) -> None:
        """Take in the whole lines that have been added to the file."""
        if not self.path.is_file() or self.path.stat().st_size == self._read:
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                self._lines += 1
                self._take_in(line)

    def _take_in(self, line: bytes) -> None:
        try:
            part = json.loads(line)
            self._kept[digest(part["kind"], part["inputs"])] = {name: part[name] for name in ("rows", "seconds")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"study: expected a finished unit in line {self._lines} of {self.path}, got a line that holds none "
                f"({error}); remove that line"
            ) from error

    def _append(self, part: dict[str, Any]) -> None:
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _cut_torn_line(file)
            file.write(json.dumps(part).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    """End a file of lines with its last whole one."""
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
