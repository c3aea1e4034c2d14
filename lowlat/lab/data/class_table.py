"""``classes.csv``: what the classes of a labelled set are called and how they are drawn, a row a class.

index,name,r,g,b
0,road,128,64,128
1,"pavement, kerb",244,35,232
"""

from __future__ import annotations

import csv
from pathlib import Path

from lowlat.classes import Classes

HEADER = ("index", "name", "r", "g", "b")
MOST = 255  # classes: labels are bytes, and one value must be left for void


def read_classes(path: str | Path) -> Classes:
    """Read the classes of a file of rows ``index,name,r,g,b``, in any order, with or without a first row of these
    words.

    Raises:
        ValueError: the file can't be read, or a row, whose line is named, can't be understood.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"read_classes: expected a text file of classes at {path}, got {error}") from error
    if rows and tuple(cell.lower() for cell in rows[0][1]) == HEADER:
        del rows[0]
    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    for line, cells in rows:
        index, name, colour = _row(path, line, cells)
        if index in found or name in (known for known, _ in found.values()):
            raise ValueError(
                f"read_classes: expected every index and name once in {path}, got {index} {name!r} again in line "
                f"{line}; leave one out"
            )
        found[index] = name, colour
    if not 1 <= len(found) <= MOST or sorted(found) != list(range(len(found))):
        raise ValueError(
            f"read_classes: expected 1 to {MOST} classes with the indices 0, 1, 2, ... in {path}, got "
            f"{', '.join(map(str, sorted(found))) or 'none'}; number them from 0 without a gap, and leave void out"
        )
    ordered = [found[index] for index in range(len(found))]
    return Classes(tuple(name for name, _ in ordered), tuple(colour for _, colour in ordered))


def _row(path: Path, line: int, cells: list[str]) -> tuple[int, str, tuple[int, ...]]:
    words = f"got {','.join(cells)!r} in line {line}"
    if len(cells) != len(HEADER) or not cells[1]:
        raise ValueError(f"read_classes: expected rows {','.join(HEADER)} in {path}, {words}; mend it")
    numbers = [cells[0], *cells[2:]]
    if not all(number.isascii() and number.isdecimal() and int(number) <= 255 for number in numbers):
        raise ValueError(
            f"read_classes: expected an index and a colour of three numbers, all 0 to 255, in {path}, {words}; mend it"
        )
    index, *colour = map(int, numbers)
    return index, cells[1], tuple(colour)
