"""Lists the images that a folder, a numbered pattern or a glob names, in order, and says what they are called."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lowlat.runtime.words import counted
from lowlat.video.frames import SourceError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_NUMBER = re.compile(r"(?<!%)((?:%%)*)%(\d*)d")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that reads numbers as numbers: ``2.png`` comes before ``10.png``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]


def is_image(path: Path) -> bool:
    """Whether a file is listed as an image: by its suffix, and not hidden, as ``._1.png`` of another system is."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def is_pattern(spec: str | Path) -> bool:
    """Whether a path that doesn't exist names several images: ``img%03d.png``, or a glob with ``*``, ``?``, ``[``."""
    return bool(_NUMBER.search(Path(spec).name)) or glob.has_magic(str(spec))


def list_images(spec: str | Path) -> list[Path]:
    """Return the images of a folder without its subfolders, of a numbered pattern, or of a glob, in natural order.

    Args:
        spec: a folder; or a path whose name holds ``%d`` or ``%03d`` as FFmpeg has it (numbers may be left out, and
            ``%%`` is a percent sign); or a glob, in which ``**`` stands for any subfolders.

    Raises:
        SourceError: it can't be read, or there are no images.
    """
    path = Path(spec)
    if path.is_dir():
        where, found = f"in folder {str(spec)!r}", _entries(path)
    elif _NUMBER.search(path.name):
        where, found = f"that match {str(spec)!r}", _numbered(path)
    else:
        where, found = f"that match {str(spec)!r}", [Path(name) for name in glob.glob(escaped(path)[1], recursive=True)]
    images = [file for file in found if is_image(file)]
    if not images:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        others = f" among its {counted(len(found), 'file')}" if found else ""
        raise SourceError(f"open_source: expected images ({kinds}) {where}, found none{others}; check the path")
    return sorted(images, key=lambda file: ([natural_key(Path(part)) for part in file.parts[:-1]], natural_key(file)))


def stems_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each image, no two of them the same: its path below the folder that all share, without the
    suffix.

    Images that differ in their suffix alone keep it: ``a.jpg`` and ``a.png`` stay "a.jpg" and "a.png".
    """
    shared = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    below = [Path(os.path.relpath(os.path.abspath(path), shared)) for path in paths]
    whole = [path.as_posix() for path in below]
    stems = [path.with_suffix("").as_posix() for path in below]
    count = Counter(stems)
    names = [stem if count[stem] == 1 else name for stem, name in zip(stems, whole, strict=True)]
    return names if len(set(names)) == len(names) else whole


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"open_source: expected a readable folder, got {str(folder)!r}: {error.strerror}") from error


def _numbered(pattern: Path) -> list[Path]:
    if not pattern.parent.is_dir():
        return []
    number = _NUMBER.search(pattern.name)
    width = int(number[2] or 0)
    before, after = pattern.name[: number.end(1)], pattern.name[number.end() :]
    name = re.compile(f"{_literal(before)}(\\d+){_literal(after)}")
    found = [(name.fullmatch(path.name), path) for path in _entries(pattern.parent)]
    # FFmpeg fills numbers up with zeros to the width, and no further.
    return [path for match, path in found if match and match[1] == str(int(match[1])).zfill(width)]


def _literal(text: str) -> str:
    return re.escape(text.replace("%%", "%"))


def escaped(pattern: Path) -> tuple[Path, str]:
    """Split a glob into the leading folders that exist, such as ``shots [1]``, and return it with these as plain
    names."""
    there = next((parent for parent in pattern.parents if parent.is_dir()), Path())
    return there, str(Path(glob.escape(str(there))) / pattern.relative_to(there))
