"""Finds the recorded videos that a command line names, and names their results, for `lowlat.jobs.batch`."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from lowlat.jobs.one_video import OVERLAY, REPORT
from lowlat.video.frames import SourceError
from lowlat.video.listing import escaped, natural_key

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .wmv .flv .y4m .3gp .mjpg .mjpeg".split()
)
"""The suffixes of videos in a folder. A file that is named by itself, or by a glob, may have any."""


def recordings(videos: Sequence[str | Path]) -> dict[str, Path]:
    """Return the videos by the names of their results, in natural order.

    A result is called as the video's file, without the suffix. Below a folder that was given, or the fixed beginning of
    a glob, it keeps its subfolders, so that its name doesn't depend on which other videos there are.

    Args:
        videos: files; folders, whose videos count, those in subfolders too, except hidden ones, links to folders, and
            overlays that an earlier batch has left there; globs, in which ``**`` stands for any subfolders.

    Raises:
        SourceError: there is nothing of that name, no video in it, or two results would have one place.
    """
    if not videos:
        raise SourceError("batch: expected videos, got none; name files, folders or globs in quotes")
    found: dict[str, Path] = {}
    for spec in map(str, videos):
        for name, path in _named_by(spec):
            other = found.setdefault(name, path)
            if other.resolve() != path.resolve():
                raise SourceError(
                    f"batch: expected videos whose results have names of their own, got {str(other)!r} and "
                    f"{str(path)!r}, both {name!r}; label them into two folders, or give the folder that holds both"
                )
    for name, path in found.items():
        for outer in map(str, Path(name).parents):
            if outer in found:
                raise SourceError(
                    f"batch: expected results beside each other, got {str(path)!r}, whose result would lie in that of "
                    f"{str(found[outer])!r}; rename one of them, or label them into two folders"
                )
    return dict(sorted(found.items(), key=lambda item: [natural_key(Path(part)) for part in Path(item[0]).parts]))


def _named_by(spec: str) -> Iterator[tuple[str, Path]]:
    path = Path(spec)
    if path.is_dir():
        base, paths = path, [file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES]
    elif path.exists() or not glob.has_magic(spec):
        base, paths = path.parent, [path]
    else:
        base, pattern = escaped(path)
        paths = [Path(name) for name in glob.glob(pattern, recursive=True)]
    # Files of the system such as ._1.mp4 are hidden, and results under way too.
    paths = [file for file in paths if file == path or not _hidden(file.relative_to(base))]
    files = [file for file in paths if file.is_file() and (file == path or not _result(file))]
    if not files:
        raise SourceError(
            f"batch: expected recorded videos, found none at {spec!r}; check the path (lowlat segment takes cameras, "
            "addresses and folders of images)"
        )
    for file in files:
        yield file.relative_to(base).with_suffix("").as_posix(), file.absolute()


def _result(path: Path) -> bool:
    """Whether a file is the result of a batch, since a folder that is given may hold results of an earlier one."""
    return path.name == OVERLAY and (path.parent / REPORT).is_file()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
