"""`ImageFolder` makes a folder of images a source of frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lowlat.video.frames import DEFAULT_FPS, Source, SourceError, Timed, by

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that reads numbers as numbers: ``2.png`` comes before ``10.png``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]


class ImageFolder(Source):
    """The images of one folder, without subfolders, sorted by :func:`natural_key`; 8 or 16 bits a channel, read as RGB.

    Args:
        folder: holds files with ``IMAGE_SUFFIXES``; others in it are left out.
        resize: ``(width, height)`` to scale every image to; None keeps the size, which must be the same for all.

    Raises:
        SourceError: the folder can't be read or holds no images, or its first image can't be read.
    """

    def __init__(self, folder: str | Path, resize: tuple[int, int] | None = None):
        self.name, self._resize = str(folder), resize
        try:
            entries = list(Path(folder).iterdir())
        except OSError as error:
            raise SourceError(
                f"open_source: expected a readable folder, got {self.name!r}: {error.strerror}"
            ) from error
        self._paths = sorted((path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
        if not self._paths:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(
                f"open_source: expected images ({kinds}) in folder {self.name!r}, found none; check the path"
            )
        first = self._read(self._paths[0])
        self.size = (first.shape[1], first.shape[0])
        self.fps, self.frames, self.live = DEFAULT_FPS, len(self._paths), False
        self.untimed, self.missing = True, []

    def timed(self) -> Iterator[Timed]:
        for index, path in enumerate(self._paths):
            array = self._read(path)
            if array.shape[1::-1] != self.size:
                width, height = self.size
                raise SourceError(
                    f"ImageFolder: expected images of one size, got {width}x{height} and "
                    f"{by(array.shape)} ({path.name}); give a size to scale every image to"
                )
            yield Timed(array, float(index / self.fps), index)

    def _read(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                image = to_rgb(ImageOps.exif_transpose(image), image.format)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise SourceError(
                f"ImageFolder: expected an image, got {str(path)!r}, which can't be read: "
                f"{' '.join(str(error).split())}; remove or replace it"
            ) from error
        return np.array(image.resize(self._resize, Image.Resampling.BILINEAR) if self._resize else image)


def to_rgb(image: Image.Image, kind: str | None) -> Image.Image:
    """Convert an image of 8 or 16 bits a channel to RGB of 8 bits.

    Args:
        kind: the format of the file that it was read from, as Pillow calls it.

    Raises:
        ValueError: it is a grey image of 32 bits.
    """
    # Pillow reads 16-bit greys of these formats into mode I, whose 32 bits they don't fill.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PPM", "PNG")):
        # The high byte is kept, as Pillow does for 16-bit colours; convert would clip at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its greys have 32 bits (mode {image.mode}), of which white is unknown: save it with 8 or 16")
    return image.convert("RGB")
