"""What every set of labelled images offers to training and evaluation."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Palette = tuple[tuple[int, int, int], ...]
"""One RGB colour a class."""


class LabelledImages(Protocol):
    """A list of images with label maps. A set subclasses it, for ``labelled`` and ``load``, or has all of it itself.

    Attributes:
        split: the name of the list: ``"train"``, ``"val"``, ``"test"``.
        classes: names; a label value of ``len(classes)`` or more is void.
        palette: their colours.
        videos: ranges of indices whose frames follow each other; empty for still images.
    """

    split: str
    classes: tuple[str, ...]
    palette: Palette
    videos: list[range]

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """RGB, uint8 ``(3, H, W)``."""
        ...

    def label(self, index: int) -> Tensor | None:
        """Class indices, uint8 ``(H, W)``; None for a frame nobody labelled."""
        ...

    def labelled(self, index: int) -> bool:
        """Whether there is a label map, told without reading it."""
        return True

    def load(self) -> tuple[Tensor, Tensor]:
        """All that is labelled, in memory: images uint8 ``(n, 3, H, W)`` and labels uint8 ``(n, H, W)``.

        Raises:
            ValueError: nothing is labelled.
        """
        indices = [index for index in range(len(self)) if self.labelled(index)]
        if not indices:
            raise ValueError(f"load: expected labelled images in {self.split!r}, got none; open another split")
        return torch.stack([self.image(i) for i in indices]), torch.stack([self.label(i) for i in indices])
