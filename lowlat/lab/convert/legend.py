"""Names and colours of classes for a checkpoint without any, from a known data set or from a file."""

from __future__ import annotations

from pathlib import Path

from lowlat.classes import CAMVID, Classes
from lowlat.lab.data import cityscapes
from lowlat.lab.data.class_table import read_classes

KNOWN = {"camvid": CAMVID, "cityscapes": Classes(cityscapes.CLASSES, cityscapes.PALETTE)}


def named_classes(words: str) -> Classes:
    """Return the classes of a data set by its name, or those that a file ``classes.csv`` lists.

    Raises:
        ValueError: there is no such name or file, or a row of the file can't be understood.
    """
    if words in KNOWN:
        return KNOWN[words]
    if not Path(words).is_file():
        raise ValueError(f"convert: expected {', '.join(KNOWN)} or a file classes.csv as --classes, got {words!r}")
    return read_classes(words)
