"""Keeps a run as JSON and CSV (banner, roofs, rows, figures), loads it, and compares two."""

import csv
import datetime
import json
import os
import platform
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

import svconv
from benchmarks.figures import Figure
from benchmarks.roofs import Roof
from benchmarks.rows import Row
from lowlat.video.files import whole_file


@dataclass
class Results:
    """All that is kept of a run. `banner` says when, where and with which versions it was made."""

    banner: dict[str, object]
    roofs: list[Roof]
    rows: list[Row]
    figures: list[Figure]


def banner(device: str, preset: str) -> dict[str, object]:
    info = svconv.build_info()
    cuda = device.startswith("cuda")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "preset": preset,
        "device": torch.cuda.get_device_name(device) if cuda else _cpu_name(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_set": info["active_instruction_set"],
        "svconv": info["version"],
        "torch": torch.__version__,
        "triton": _version("triton"),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return __import__(package).__version__
    except ImportError:
        return "not installed"


def file_name(banner: dict[str, object]) -> str:
    """Return the name of a run's files, made of device, cores and preset, without suffix."""
    words = f"{banner['device']}-{banner['cores']}cores-{banner['preset']}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def save(results: Results, folder: Path) -> Path:
    """Write the run as JSON, and its rows as CSV beside it, and return the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name(results.banner)}.json"
    with whole_file(path) as part:
        part.write_text(json.dumps(asdict(results), indent=1))
    with whole_file(path.with_suffix(".csv")) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in results.rows)
    return path


def load(path: Path) -> Results:
    """Read what `save` wrote.

    Raises:
        ValueError: the file isn't the JSON of a run.
    """
    try:
        content = json.loads(Path(path).read_text())
        return Results(
            content["banner"],
            [Roof(**roof) for roof in content["roofs"]],
            [Row(**row) for row in content["rows"]],
            [Figure(**figure) for figure in content["figures"]],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the JSON of a benchmark run, got {error!r}") from None


@dataclass(frozen=True)
class Change:
    """A row of two runs that differs beyond noise; `ratio` is the second time over the first."""

    before: Row
    after: Row
    ratio: float | None

    @property
    def worse(self) -> bool:
        return self.ratio is None or self.ratio > 1


def compare(before: Results, after: Results, least: float = 0.05) -> list[Change]:
    """Find the rows of both runs whose medians differ by more than either's p20 to p80, and by more than `least` of the
    first.

    A row that was timed and no longer is (wrong, out of memory) is a change for the worse without a ratio.
    """
    known = {(row.case, row.contender): row for row in before.rows if row.ms is not None}
    changes = []
    for row in after.rows:
        old = known.get((row.case, row.contender))
        if old is None:
            continue
        if row.ms is None:
            changes.append(Change(old, row, None))
            continue
        noise = max(old.ms_p80 - old.ms_p20, row.ms_p80 - row.ms_p20)
        if abs(row.ms - old.ms) > max(noise, least * old.ms):
            changes.append(Change(old, row, row.ms / old.ms))
    return changes
