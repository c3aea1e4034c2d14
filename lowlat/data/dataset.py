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


def open_dataset(spec: str | Path, split: str) -> LabelledImages:
    """Open one list of a data set.

    Args:
        spec: ``"<kind>:<place>"``, or a folder alone, whose kind is told from what lies in it. Kinds: ``camvid``,
            ``cityscapes`` and ``folder`` with a folder, ``street`` as in ``street:480x360,seed=0,frames=600``.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        ValueError: no such kind, place or list.
    """
    kind, colon, place = str(spec).partition(":")
    if not colon:
        kind, place = recognise(Path(spec)), str(spec)
    if kind not in _KINDS:
        raise ValueError(f"open_dataset: expected a kind among {', '.join(_KINDS)} before the colon, got {str(spec)!r}")
    return _KINDS[kind](place, split)


def recognise(folder: Path) -> str:
    """The kind of data set that a folder holds; ``ValueError`` where it is none."""
    layouts = {
        "camvid": ("train.txt", "val.txt", "test.txt", "701_StillsRaw_full"),
        "cityscapes": ("leftImg8bit_sequence", "leftImg8bit"),
        "folder": ("images", "train/images", "val/images", "test/images"),
    }
    for kind, names in layouts.items():
        if any((folder / name).exists() for name in names):
            return kind
    raise ValueError(
        f"open_dataset: expected a folder with CamVid's train.txt or 701_StillsRaw_full, Cityscapes' leftImg8bit, "
        f"or images, got {str(folder)!r}; check the path"
    )


def _open_camvid(place: str, split: str) -> LabelledImages:
    from lowlat.data import camvid, camvid_full

    full = (Path(place) / camvid_full.IMAGES).is_dir()
    return camvid_full.CamVidFull(place, split) if full else camvid.CamVid(place, split)


def _open_cityscapes(place: str, split: str) -> LabelledImages:
    from lowlat.data.cityscapes import Cityscapes

    return Cityscapes(place, split)


def _open_folder(place: str, split: str) -> LabelledImages:
    from lowlat.data.folder import Folder

    return Folder(place, split)


def _open_street(place: str, split: str) -> LabelledImages:
    from lowlat.data.street import Street

    size, *options = place.split(",") if place else ("480x360",)
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    values = [re.fullmatch(r"(seed|frames)=(\d+)", option) for option in options]
    if not found or not all(values):
        raise ValueError(f"open_dataset: expected a street as in street:480x360,seed=0,frames=600, got {place!r}")
    width, height = map(int, found.groups())
    return Street(size=(height, width), split=split, **{value[1]: int(value[2]) for value in values})


# The sets build on this file's protocol: each is imported when asked for.
_KINDS = {"camvid": _open_camvid, "cityscapes": _open_cityscapes, "folder": _open_folder, "street": _open_street}
