"""`LabelSink` writes a folder of label maps, and leaves no broken file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from lowlat.video.files import SinkError, whole_file


class LabelSink:
    """A folder of label maps, ``000000.png`` and on: palette PNGs of class indices, each of them whole or absent.

    Args:
        folder: is made if it isn't there; must hold no PNG, so that two runs never mix.
        palette: one RGB triple a class; other indices are black.

    Raises:
        SinkError: at once, if the folder can't be written to or is in use.
    """

    def __init__(self, folder: str | Path, palette: Sequence[tuple[int, int, int]]):
        self.path = Path(folder)
        self._next = 0
        self._palette = [channel for colour in palette for channel in colour]
        try:
            self._made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            used = next(self.path.glob("*.png"), None)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            raise self._unwritable(error) from error
        if used is not None:
            raise SinkError(
                f"LabelSink: expected an empty or new folder, got {str(folder)!r} with {used.name} in it; "
                "empty it or choose another"
            )

    def write(self, labels: np.ndarray, index: int | None = None) -> None:
        """Write one label map, uint8 ``(H, W)``, as number ``index`` (by default the next).

        Raises:
            ValueError: labels of another shape or type.
            SinkError: it can't be written.
        """
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"LabelSink.write: expected uint8 labels (H, W), got {labels.dtype} {labels.shape}")
        index = self._next if index is None else index
        image = Image.fromarray(labels)
        image.putpalette(self._palette)
        try:
            with whole_file(self.path / f"{index:06d}.png") as part:
                image.save(part, format="png", compress_level=1)
        except OSError as error:
            raise self._unwritable(error) from error
        self._next = index + 1

    def close(self) -> None:
        """Remove the folder again if this sink made it and nothing was written."""
        if self._made and not self._next:
            with suppress(OSError):
                self.path.rmdir()

    def __enter__(self) -> LabelSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unwritable(self, error: OSError) -> SinkError:
        return SinkError(
            f"LabelSink: expected a folder to write label maps to, got {str(self.path)!r}: {error.strerror}; "
            "choose a place that may be written to and has room"
        )
