"""Label maps on disk: `LabelSink` writes a PNG for each frame, `RunLengthSink` a line for each. Both leave no broken
file, and ``classes.json`` beside the maps says what the class indices mean."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from lowlat.video.files import SinkError, SteadyFlush, whole_file

KINDS = ("palette", "grey", "rle")
"""The ways to write label maps: coloured PNGs, PNGs of plain indices, or run lengths as JSON lines."""
CLASSES, LINES = "classes.json", "labels.jsonl"
"""The files of a folder of label maps beside the PNGs."""

Palette = Sequence[tuple[int, int, int]]


class _LabelFolder:
    """The folder that label maps are written to, and the names that they get.

    Args:
        folder: it is made if it isn't there, and must hold no label maps, so that two runs never mix.
        palette: one RGB triple a class; other indices are black.
        names: one name a class, for ``classes.json``, which is left out without them.
        stems: a name for each frame of the source, which its label map gets; by default the index, six digits.

    Raises:
        SinkError: at once, if the folder can't be written to or is in use.
    """

    def __init__(
        self,
        folder: str | Path,
        palette: Palette,
        *,
        names: Sequence[str] | None = None,
        stems: Sequence[str] | None = None,
    ):
        self.path = Path(folder)
        self._palette, self._names, self._stems = [tuple(colour) for colour in palette], names, stems
        self._next = self._written = 0
        self._told, self._flush = False, SteadyFlush()
        try:
            self._made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            used = next(filter(_is_result, self.path.iterdir()), None)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            raise self._unwritable(error) from error
        if used is not None:
            raise SinkError(
                f"{type(self).__name__}: expected an empty or new folder, got {str(folder)!r} with {used.name} in it; "
                "empty it or choose another"
            )

    def close(self) -> None:
        """Bring the rest to the disk; remove what this sink made if no label map was written. May be called again."""
        self._flush.finish()
        if self._written:
            return
        with suppress(OSError):
            if self._told:
                (self.path / CLASSES).unlink()
            if self._made:
                self.path.rmdir()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, labels: np.ndarray, index: int | None) -> int:
        """Check one label map and return its index; write ``classes.json`` before the first one."""
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(
                f"{type(self).__name__}.write: expected uint8 labels (H, W), got {labels.dtype} {labels.shape}"
            )
        if self._names is not None and not self._told:
            with whole_file(self.path / CLASSES) as part:
                part.write_text(json.dumps({"names": list(self._names), "palette": self._palette}, indent=1) + "\n")
            self._told = True
        return self._next if index is None else index

    def _end(self, index: int, path: Path) -> None:
        self._flush.written(path)
        self._next = index + 1
        self._written += 1

    def _unwritable(self, error: OSError) -> SinkError:
        kept = f"; the {self._written} label maps written before are whole" if self._written else ""
        return SinkError(
            f"{type(self).__name__}: expected a folder to write label maps to, got {str(self.path)!r}: "
            f"{error.strerror}{kept}; choose a place that may be written to and has room"
        )


class LabelSink(_LabelFolder):
    """A folder of label maps, ``000000.png`` and on: PNGs of class indices, each whole or absent.

    Args:
        folder, palette, names, stems: as in `_LabelFolder`.
        grey: whether plain indices of 8 bits are written, which every reader gives as such; by default indices with the
            palette, which viewers show in the classes' colours and OpenCV reads as colours.

    Raises:
        SinkError: at once, if the folder can't be written to or is in use.
    """

    def __init__(self, folder: str | Path, palette: Palette, *, grey: bool = False, **options):
        super().__init__(folder, palette, **options)
        self._grey = grey

    def write(self, labels: np.ndarray, index: int | None = None) -> None:
        """Write one label map, uint8 ``(H, W)``, as number ``index`` (by default the next).

        Raises:
            ValueError: labels of another shape or type.
            SinkError: it can't be written.
        """
        try:
            index = self._begin(labels, index)
            image = Image.fromarray(labels)
            if not self._grey:
                image.putpalette([channel for colour in self._palette for channel in colour])
            path = self.path / f"{f'{index:06d}' if self._stems is None else self._stems[index]}.png"
            if self._stems is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                image.save(part, format="png", compress_level=1)
        except OSError as error:
            raise self._unwritable(error) from error
        self._end(index, path)


class RunLengthSink(_LabelFolder):
    """A folder with ``labels.jsonl``: for each frame a line, as :func:`run_length_line` makes it, whole or absent.

    Args and errors are those of `_LabelFolder`. A line is on its way to the disk when ``write`` returns.
    """

    def __init__(self, folder: str | Path, palette: Palette, **options):
        super().__init__(folder, palette, **options)
        self._file = None
        self._size = 0

    def write(self, labels: np.ndarray, index: int | None = None, time_s: float | None = None) -> None:
        """Write one label map, uint8 ``(H, W)``, as number ``index`` (by default the next) at ``time_s`` seconds.

        Raises:
            ValueError: labels of another shape or type.
            SinkError: it can't be written; the lines before it stay whole.
        """
        try:
            index = self._begin(labels, index)
            if self._file is None:
                self._file = open(self.path / LINES, "xb", buffering=0)  # noqa: SIM115
            line = run_length_line(labels, index, time_s, self._stems and self._stems[index])
            write_whole(self._file, line)
        except OSError as error:
            if self._file is not None:
                with suppress(OSError):
                    self._file.truncate(self._size)
            raise self._unwritable(error) from error
        self._size += len(line)
        self._end(index, self.path / LINES)

    def close(self) -> None:
        """Close the file; remove what was made if nothing was written. May be called again."""
        if self._file is not None:
            self._file.close()
            if not self._written:
                (self.path / LINES).unlink(missing_ok=True)
        super().close()


def _is_result(path: Path) -> bool:
    """Whether a file comes from an earlier run: a label map, or the classes of label maps in folders below."""
    return path.suffix == ".png" or path.name in (CLASSES, LINES)


def run_length_line(labels: np.ndarray, index: int, time_s: float | None, stem: str | None = None) -> bytes:
    """Return one label map as a line of JSON.

    It holds ``index``; ``name``, if there is a stem; ``time_s``, null if no time is known; ``size``, which is ``[H,
    W]`` as in COCO; and ``runs``, pairs of a class and for how many pixels it goes on, row by row from the upper left
    corner (COCO counts column by column, and one class only).

    Args:
        labels: uint8 ``(H, W)``.
    """
    line = {
        "index": index,
        **({} if stem is None else {"name": stem}),
        "time_s": None if time_s is None else round(time_s, 6),
        "size": list(labels.shape),
        "runs": runs_of(labels),
    }
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def runs_of(labels: np.ndarray) -> list[list[int]]:
    """Return the runs of equal labels of ``(H, W)``, row by row, each as ``[class, length]``."""
    flat = labels.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])[: flat.size]
    lengths = np.diff(np.r_[starts, flat.size])
    return np.stack((flat[starts], lengths), axis=1).tolist()


def write_whole(stream, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered binary stream, which may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
