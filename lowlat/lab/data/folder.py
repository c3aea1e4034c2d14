"""A plain folder of frames and labels, for one's own data and for what `lowlat street` writes.

    <root>/images/     frames, in the order of the numbers in their names
    <root>/labels/     PNG class indices under equal stems; values from the number of classes on are void
    <root>/classes.csv rows index,name,r,g,b, a class each (`lowlat.lab.data.class_table`); or
    <root>/classes.txt a class a line, in order: its name, then its colour as three numbers or none
    <root>/videos.txt  the stem of each video's first frame, a line each; all frames are one video if missing

With folders ``<root>/<split>/images`` each split has files of its own; else every split is the whole. Without a file of
classes they are CamVid's, which is said on stderr.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from lowlat.classes import CAMVID, distinct_colour
from lowlat.lab.data.class_table import read_classes
from lowlat.lab.data.dataset import Palette
from lowlat.lab.data.files import LabelledFiles
from lowlat.lab.notices import notice
from lowlat.video.listing import is_image, natural_key


class Folder(LabelledFiles):
    """One list of a folder laid out as the head of this file says. A frame without a file of labels is unlabelled.

    Raises:
        ValueError: no images, two images of one stem, labels without their image, lists that can't be understood.
    """

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = Path(root), split
        place = self.root / split if (self.root / split / "images").is_dir() else self.root
        self.images = _images(place / "images")
        stems = {path.stem: index for index, path in enumerate(self.images)}
        if len(stems) < len(self.images):
            raise ValueError(f"Folder: expected one image a name in {place / 'images'}, got two; remove one")
        labels = {path.stem: path for path in _labels(place / "labels")}
        if strays := sorted(labels.keys() - stems.keys()):
            raise ValueError(
                f"Folder: expected an image for every file of {place / 'labels'}, got none for {strays[0]}"
            )
        self.truths = [labels.get(path.stem) for path in self.images]
        self.classes, self.palette = _classes(self.root)
        self.videos = _videos(place / "videos.txt", stems)


def _images(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    images = sorted(filter(is_image, paths), key=natural_key)
    if not images:
        raise ValueError(f"Folder: expected images in {folder}, found none; check the path")
    return images


def _labels(folder: Path) -> list[Path]:
    """Return the label maps of a folder, which may be missing. Raises ``ValueError`` for images of another kind."""
    images = [path for path in folder.iterdir() if is_image(path)] if folder.is_dir() else []
    if others := sorted(path.name for path in images if path.suffix.lower() != ".png"):
        raise ValueError(
            f"Folder: expected PNG files of class indices in {folder}, got {others[0]}; save labels as PNG, which "
            "keeps every index as it is"
        )
    return images


def _classes(root: Path) -> tuple[tuple[str, ...], Palette]:
    table, path = root / "classes.csv", root / "classes.txt"
    if table.is_file():
        classes = read_classes(table)
        return classes.names, classes.palette
    if not path.is_file():
        _say_unnamed(root.resolve())
        return CAMVID.names, CAMVID.palette
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    found = [re.fullmatch(r"(.+?)(?:\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3}))?", line) for line in lines]
    if not 0 < len(found) < 256:
        raise ValueError(f"Folder: expected 1 to 255 classes in {path}, got {len(found)}")
    colours = [tuple(map(int, row.groups()[1:])) if row[2] else None for row in found]
    if any(max(colour or (0,)) > 255 for colour in colours):
        raise ValueError(f"Folder: expected colours as three numbers to 255 in {path}, got a larger one")
    palette = tuple(colour or distinct_colour(index) for index, colour in enumerate(colours))
    return tuple(row[1] for row in found), palette


@cache
def _say_unnamed(root: Path) -> None:
    """Say on stderr, once a folder, that its classes are taken to be CamVid's."""
    notice(
        f"no classes.csv in {root}: its labels are read as the {len(CAMVID)} classes of CamVid ({CAMVID.names[0]}, "
        f"{CAMVID.names[1]}, ...), and those of {len(CAMVID)} and above as void; say what they are by rows "
        "index,name,r,g,b"
    )


def _videos(path: Path, stems: dict[str, int]) -> list[range]:
    if not path.is_file():
        return [range(len(stems))]
    names = path.read_text().split("\n")
    names = [name.strip() for name in names if name.strip()]
    starts = [stems.get(name) for name in names]
    if not starts or starts[0] != 0 or None in starts or starts != sorted(set(starts)):
        raise ValueError(
            f"Folder: expected in {path} the stem of every video's first frame, in order, the first image's first; "
            f"got {', '.join(names[:5])}"
        )
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(stems)], strict=True)]
