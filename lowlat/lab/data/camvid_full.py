"""CamVid as first published: 960x720 images, labels as colours of 32 classes, merged here into the usual 11.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009. Non-commercial licence.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lowlat.classes import CAMVID
from lowlat.lab.data.camvid import VOID
from lowlat.lab.data.files import LabelledFiles, read_colours

IMAGES, LABELS = "701_StillsRaw_full", "LabeledApproved_full"

# The published label_colors.txt, by the class that SegNet's authors and most since merge each of its classes into.
COLOURS = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Archway": (192, 0, 128),
        "Bridge": (0, 128, 64),
        "Building": (128, 0, 0),
        "Tunnel": (64, 0, 64),
        "Wall": (64, 192, 0),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64), "Road": (128, 64, 128)},
    "pavement": {"ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192), "Sidewalk": (0, 0, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {"Misc_Text": (128, 128, 64), "SignSymbol": (192, 128, 128), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128),
        "OtherMoving": (128, 64, 64),
        "SUVPickupTruck": (64, 128, 192),
        "Train": (192, 64, 128),
        "Truck_Bus": (192, 128, 192),
    },
    "pedestrian": {
        "Animal": (64, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Child": (192, 128, 64),
        "Pedestrian": (64, 64, 0),
    },
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}


def _table() -> np.ndarray:
    """Return a table from a colour, as red * 2**16 + green * 2**8 + blue, to its class: VOID for black and unknown
    colours."""
    table = np.full(1 << 24, VOID, np.uint8)
    for name, colours in COLOURS.items():
        for red, green, blue in colours.values():
            table[red << 16 | green << 8 | blue] = CAMVID.names.index(name)
    return table


def split_of(name: str) -> str:
    """Return the list of the SegNet split that an image belongs to, by its name, as in ``0016E5_07959``.

    Raises:
        ValueError: not a name of CamVid's.
    """
    found = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", name)
    if not found:
        raise ValueError(
            f"CamVidFull: expected names as in 0016E5_07959, got {name!r}; leave CamVid's images alone there"
        )
    sequence, frame = found[1], int(found[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= frame <= 8159 and frame % 2 else "train"


class CamVidFull(LabelledFiles):
    """One list of the SegNet split, from ``<root>/701_StillsRaw_full/*.png`` and ``LabeledApproved_full/*_L.png``.

    ``val`` is a video: 101 labelled frames at 15 Hz.

    Raises:
        ValueError: folders or images are not there, or there is no such split.
    """

    classes, palette = CAMVID.names, CAMVID.palette
    _classes: np.ndarray | None = None

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = Path(root), split
        if split not in ("train", "val", "test"):
            raise ValueError(f"CamVidFull: expected the split train, val or test, got {split!r}")
        images = sorted((self.root / IMAGES).glob("*.png"))
        self.images = [path for path in images if split_of(path.stem) == split]
        if not self.images:
            raise ValueError(
                f"CamVidFull: expected images of {split} in {self.root / IMAGES}, found none; "
                f"give the folder that holds {IMAGES} and {LABELS}"
            )
        truths = [self.root / LABELS / f"{path.stem}_L.png" for path in self.images]
        self.truths = [path if path.is_file() else None for path in truths]
        self.videos = [range(len(self.images))] if split == "val" else []

    def decode(self, path: Path) -> np.ndarray:
        if CamVidFull._classes is None:
            CamVidFull._classes = _table()
        colours = read_colours(path).astype(np.uint32)
        return CamVidFull._classes[colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]]
