"""Sets whose images and label maps are files: reading them, for every such set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lowlat.data.dataset import LabelledImages


class LabelledFiles(LabelledImages):
    """Image files, each with a file of labels or None. A set fills ``images`` and ``truths``, and the attributes.

    Label files are PNG with one value a pixel, grey or palette; a set whose files differ overrides ``decode``.
    """

    images: Sequence[Path]
    truths: Sequence[Path | None]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """RGB, uint8 ``(3, H, W)``."""
        return torch.from_numpy(_read(self.images[index], "RGB")).permute(2, 0, 1).contiguous()

    def label(self, index: int) -> Tensor | None:
        """Class indices, uint8 ``(H, W)``; None where there is no file.

        Raises:
            ValueError: the file holds something else.
        """
        path = self.truths[index]
        return None if path is None else torch.from_numpy(self.decode(path))

    def labelled(self, index: int) -> bool:
        return self.truths[index] is not None

    def decode(self, path: Path) -> np.ndarray:
        """A label file's class indices, uint8 ``(H, W)``."""
        values = _read(path)
        if values.ndim != 2 or values.dtype != np.uint8:
            raise ValueError(
                f"label: expected 8-bit class indices, one a pixel, got {values.shape} {values.dtype} in {path}; "
                "convert colours to indices first"
            )
        return values


def read_colours(path: Path) -> np.ndarray:
    """RGB, uint8 ``(H, W, 3)``."""
    return _read(path, "RGB")


def _read(path: Path, mode: str | None = None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"read: expected an image, got {str(path)!r}, which can't be read: {error}") from error
