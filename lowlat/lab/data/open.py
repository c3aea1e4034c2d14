"""Opens a data set by its name, or by what lies in a folder, for every job that takes ``--data``."""

from __future__ import annotations

import re
from pathlib import Path

from lowlat.lab.data.camvid import CamVid
from lowlat.lab.data.camvid_full import IMAGES, CamVidFull
from lowlat.lab.data.cityscapes import Cityscapes
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.data.folder import Folder
from lowlat.lab.data.street import Street


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
        raise ValueError(
            f"data: expected a kind among {', '.join(_KINDS)} before the colon, got {str(spec)!r}; name one of them, "
            "or a folder alone"
        )
    return _KINDS[kind](place, split)


def recognise(folder: Path) -> str:
    """Return the kind of data set that a folder holds; ``ValueError`` if it holds none."""
    layouts = {
        "camvid": ("train.txt", "val.txt", "test.txt", "701_StillsRaw_full"),
        "cityscapes": ("leftImg8bit_sequence", "leftImg8bit"),
        "folder": ("images", "train/images", "val/images", "test/images"),
    }
    for kind, names in layouts.items():
        if any((folder / name).exists() for name in names):
            return kind
    raise ValueError(
        f"data: expected a folder with CamVid's train.txt or 701_StillsRaw_full, Cityscapes' leftImg8bit, "
        f"or images, got {str(folder)!r}; check the path"
    )


def _open_camvid(place: str, split: str) -> LabelledImages:
    full = (Path(place) / IMAGES).is_dir()
    return CamVidFull(place, split) if full else CamVid(place, split)


def _open_street(place: str, split: str) -> LabelledImages:
    size, *options = place.split(",") if place else ("480x360",)
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    values = [re.fullmatch(r"(seed|frames)=(\d+)", option) for option in options]
    if not found or not all(values):
        raise ValueError(f"data: expected a street as in street:480x360,seed=0,frames=600, got {place!r}; write it so")
    width, height = map(int, found.groups())
    return Street(size=(height, width), split=split, **{value[1]: int(value[2]) for value in values})


_KINDS = {"camvid": _open_camvid, "cityscapes": Cityscapes, "folder": Folder, "street": _open_street}
