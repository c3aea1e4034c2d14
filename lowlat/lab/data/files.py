"""Sets whose images and label maps are files: reading them, for every such set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lowlat.lab.data.dataset import LabelledImages
from lowlat.video.images import to_rgb


class LabelledFiles(LabelledImages):
    """A data set whose items are image files, each with a file of labels or None.

    A subclass fills ``images``, ``truths`` and the attributes of `LabelledImages`.

    Label files are PNG with one value a pixel, grey or palette; a set whose files differ overrides ``decode``.
    """

    images: Sequence[Path]
    truths: Sequence[Path | None]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """Return an image, RGB, uint8 ``(3, H, W)``."""
        return torch.from_numpy(_read(self.images[index], colours=True)).permute(2, 0, 1).contiguous()

    def label(self, index: int) -> Tensor | None:
        """Return class indices, uint8 ``(H, W)``; None for a frame without a file of labels.

        Raises:
            ValueError: the file holds something else, or labels of another size than the image's.
        """
        path = self.truths[index]
        if path is None:
            return None
        values = self.decode(path)
        with _opened(self.images[index]) as image:
            size = image.size
        if values.shape[::-1] != size:
            raise ValueError(
                f"label: expected {size[0]}x{size[1]} labels as {self.images[index]} is large, got "
                f"{values.shape[1]}x{values.shape[0]} in {path}; scale the labels to the image, by the nearest"
            )
        return torch.from_numpy(values)

    def labelled(self, index: int) -> bool:
        return self.truths[index] is not None

    def content(self, index: int) -> bytes:
        # The files' bytes, not the pixels: decoders of JPEG differ in the last bit.
        return self.images[index].read_bytes() + self.truths[index].read_bytes()

    def decode(self, path: Path) -> np.ndarray:
        """Read a label file's class indices, uint8 ``(H, W)``."""
        values = _read(path)
        if values.ndim != 2 or values.dtype != np.uint8:
            raise ValueError(
                f"label: expected 8-bit class indices, one a pixel, got {values.shape} {values.dtype} in {path}; "
                "convert colours to indices first"
            )
        return values


def read_colours(path: Path) -> np.ndarray:
    """Read an image file as RGB, uint8 ``(H, W, 3)``."""
    return _read(path, colours=True)


def _read(path: Path, *, colours: bool = False) -> np.ndarray:
    with _opened(path) as image:
        return np.array(to_rgb(image, image.format) if colours else image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"read: expected an image, got {str(path)!r}, which can't be read: {error}") from error
