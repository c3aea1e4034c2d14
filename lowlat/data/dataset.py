"""What every set of labelled images offers, and the one way to open one by its name. For training and evaluation."""

from __future__ import annotations

import re
from pathlib import Path
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


def _open_camvid(place: str, split: str) -> LabelledImages:
    from lowlat.data.camvid import CamVid

    return CamVid(place, split)


def _open_street(place: str, split: str) -> LabelledImages:
    from lowlat.data.street import Street

    size, *options = place.split(",") if place else ("480x360",)
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    values = [re.fullmatch(r"(seed|frames)=(\d+)", option) for option in options]
    if not found or not all(values):
        raise ValueError(f"open_dataset: expected a street as in street:480x360,seed=0,frames=600, got {place!r}")
    width, height = map(int, found.groups())
    return Street(size=(height, width), split=split, **{value[1]: int(value[2]) for value in values})


KINDS = {"camvid": _open_camvid, "street": _open_street}


def open_dataset(spec: str | Path, split: str) -> LabelledImages:
    """Open one list of a data set.

    Args:
        spec: ``"<kind>:<place>"``, or a folder alone, whose kind is told from what lies in it.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        ValueError: no such kind, place or list.
    """
    kind, colon, place = str(spec).partition(":")
    if not colon:
        kind, place = recognise(Path(spec)), str(spec)
    if kind not in KINDS:
        raise ValueError(f"open_dataset: expected a kind among {', '.join(KINDS)} before the colon, got {str(spec)!r}")
    return KINDS[kind](place, split)


def recognise(folder: Path) -> str:
    """The kind of data set that a folder holds; ``ValueError`` where it is none."""
    if any((folder / f"{split}.txt").is_file() for split in ("train", "val", "test")):
        return "camvid"
    raise ValueError(f"open_dataset: expected a folder with CamVid's train.txt, got {str(folder)!r}; check the path")
