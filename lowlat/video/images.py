"""`ImageFolder`: a folder of images as a source of frames; `ImagePages`: one file that holds several images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lowlat.video.frames import DEFAULT_FPS, Source, SourceError, Timed, by
from lowlat.video.listing import list_images, stems_of
from lowlat.video.places import Times


class ImageFolder(Source):
    """The images of a folder, a numbered pattern or a glob, in natural order; 8 or 16 bits a channel, read as RGB.

    An image that can't be read leaves its place empty. A :class:`SourceError` after the last frame tells the first of
    them.

    Args:
        spec: as in `lowlat.video.listing.list_images`.
        resize: ``(width, height)`` to scale every image to; None keeps the size.
        any_size: whether images of other sizes than the first come as they are; otherwise they are an error.

    Raises:
        SourceError: the folder can't be read, or holds no image that can be.
    """

    def __init__(self, spec: str | Path, resize: tuple[int, int] | None = None, *, any_size: bool = False):
        self.name, self._resize, self._any_size = str(spec), resize, any_size
        self._paths = list_images(spec)
        self.stems, self.missing, self.untimed = stems_of(self._paths), [], True
        self._error: SourceError | None = None
        self._first = 0
        while (first := self._image(self._first)) is None:
            self._first += 1
            if self._first == len(self._paths):
                raise self._error
        self.size = (first.shape[1], first.shape[0])
        self.fps, self.frames, self.live = DEFAULT_FPS, len(self._paths), False

    def timed(self) -> Iterator[Timed]:
        for index in range(self._first, len(self._paths)):
            array = self._image(index)
            if array is None:
                continue
            if array.shape[1::-1] != self.size and not self._any_size:
                width, height = self.size
                raise SourceError(
                    f"ImageFolder: expected images of one size, got {width}x{height} and "
                    f"{by(array.shape)} ({self._paths[index].name}); give a size to scale every image to"
                )
            yield Timed(array, float(index / self.fps), index)
        if self._error is not None:
            raise SourceError(f"{self._error} ({len(self.missing)} of {len(self._paths)} images can't be read)")

    def _image(self, index: int) -> np.ndarray | None:
        try:
            return self._read(self._paths[index])
        except SourceError as error:
            self._error = self._error or error
            self.missing.append(index)
            return None

    def _read(self, path: Path) -> np.ndarray:
        with _opened(path) as image:
            return _upright(image, self._resize)


class ImagePages(Source):
    """The pictures of one file of which FFmpeg reads only the first: an animated WebP, a TIFF of several pages.

    Args:
        path: the file.
        resize, any_size: as in `ImageFolder`; the pictures of a WebP have one size.

    Raises:
        SourceError: it can't be read.
    """

    def __init__(self, path: Path, resize: tuple[int, int] | None = None, *, any_size: bool = False):
        self._path, self.name, self._resize, self._any_size = path, str(path), resize, any_size
        self.missing, self.live = [], False
        with _opened(path) as image:
            self.frames, first = image.n_frames, _upright(image, resize)
            shown_ms = image.info.get("duration")
        self.size = (first.shape[1], first.shape[0])
        self.untimed = not shown_ms
        self.fps = DEFAULT_FPS if self.untimed else Fraction(1000, shown_ms)

    def timed(self) -> Iterator[Timed]:
        time_s, times, usual_s = Fraction(0), Times(), float(1 / self.fps)
        with _opened(self._path) as image:
            for index in range(self.frames):
                image.seek(index)
                array = _upright(image, self._resize)
                if array.shape[1::-1] != self.size and not self._any_size:
                    width, height = self.size
                    raise SourceError(
                        f"ImagePages: expected pictures of one size in {self.name!r}, got {width}x{height} and, at "
                        f"page {index}, {by(array.shape)}; give a size to scale every one to"
                    )
                shown_s = times.at(float(index / self.fps if self.untimed else time_s), usual_s)
                yield Timed(array, shown_s, index)
                time_s += Fraction(image.info.get("duration") or 0, 1000)


def holds_pages(path: Path) -> bool:
    """Whether a file is an image of several pictures, of which FFmpeg reads only the first."""
    if path.suffix.lower() not in (".webp", ".tif", ".tiff"):
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except _UNREADABLE:
        return False


_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; an error in reading it within the block becomes a :class:`SourceError`."""
    try:
        with Image.open(path) as image:
            yield image
    except SourceError:
        raise
    except _UNREADABLE as error:
        raise SourceError(
            f"open_source: expected an image, got {str(path)!r}, which can't be read: "
            f"{' '.join(str(error).split())}; remove or replace it"
        ) from error


def _upright(image: Image.Image, resize: tuple[int, int] | None) -> np.ndarray:
    """An image as RGB, turned as the camera was held."""
    image = to_rgb(ImageOps.exif_transpose(image), image.format)
    return np.array(image.resize(resize, Image.Resampling.BILINEAR) if resize else image)


def to_rgb(image: Image.Image, kind: str | None) -> Image.Image:
    """Convert an image of 8 or 16 bits a channel to RGB of 8 bits.

    Args:
        kind: the format of the file it was read from, as Pillow calls it.

    Raises:
        ValueError: it is a grey image of 32 bits.
    """
    # Pillow reads 16-bit greys of these formats into mode I, which has 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PPM", "PNG")):
        # The high byte is kept, as Pillow does for 16-bit colours; convert would clip at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its greys have 32 bits (mode {image.mode}), of which white is unknown: save it with 8 or 16")
    return image.convert("RGB")
