"""Names and colours of classes for a checkpoint that has none: of a known data set, or from a file."""

from __future__ import annotations

import csv
from pathlib import Path

from lowlat.classes import CAMVID, Classes
from lowlat.lab.data import cityscapes

KNOWN = {"camvid": CAMVID, "cityscapes": Classes(cityscapes.CLASSES, cityscapes.PALETTE)}
COLUMNS = ("index", "name", "r", "g", "b")


def named_classes(words: str) -> Classes:
    """The classes of a data set by its name, or those that a file ``classes.csv`` lists.

    The file has a class a line, ``index,name,r,g,b``, in order from 0, below a first line that says so.

    Raises:
        ValueError: no such name or file, or a line that can't be understood.
    """
    if words in KNOWN:
        return KNOWN[words]
    path = Path(words)
    if not path.is_file():
        raise ValueError(f"convert: expected {', '.join(KNOWN)} or a file classes.csv as --classes, got {words!r}")
    names, palette = [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    rows = rows[1:] if rows and not rows[0][0].strip().isdecimal() else rows
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        colour = [int(cell) for cell in cells[2:] if cell.isdecimal() and int(cell) < 256]
        if len(cells) != 5 or cells[0] != str(number) or not cells[1] or len(colour) != 3:
            raise ValueError(
                f"convert: expected {','.join(COLUMNS)} in {words!r}, index {number} next, got {','.join(row)!r}; give "
                "every class a line, in order from 0, with colours to 255"
            )
        names.append(cells[1])
        palette.append(tuple(colour))
    return Classes(names, palette)
