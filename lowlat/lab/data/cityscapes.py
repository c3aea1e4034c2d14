"""Cityscapes: 19 classes at 2048x1024, snippets of 30 frames whose 20th is labelled.

Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016. Non-commercial licence;
downloads at www.cityscapes-dataset.com after registration.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lowlat.lab.data.files import LabelledFiles
from lowlat.video.files import whole_file

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
VOID = 255
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelId of each class (trainId)."""
SNIPPET = 30  # frames

_TRAIN_IDS = np.full(256, VOID, np.uint8)
_TRAIN_IDS[list(LABEL_IDS)] = np.arange(len(CLASSES))


class Cityscapes(LabelledFiles):
    """One split: the snippets of ``leftImg8bit_sequence`` where that is there, else the images of ``leftImg8bit``.

    Labels come from ``gtFine``: ``*_gtFine_labelTrainIds.png`` where written, else ``*_gtFine_labelIds.png``, turned
    into classes. Values of 19 and above are void.

    Args:
        root: the folder that holds them.
        split: ``"train"``, ``"val"`` or ``"test"``, whose labels nobody has.

    Attributes:
        names: ``<city>_<sequence>_<frame>`` of each frame.
        videos: the snippets; none of still images.

    Raises:
        ValueError: no such split, no images, or a file whose name does not follow Cityscapes.
    """

    classes, palette = CLASSES, PALETTE

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = Path(root), split
        if split not in ("train", "val", "test"):
            raise ValueError(f"Cityscapes: expected the split train, val or test, got {split!r}")
        sequences = (self.root / "leftImg8bit_sequence" / split).is_dir()
        folder = self.root / ("leftImg8bit_sequence" if sequences else "leftImg8bit") / split
        # Names are padded with zeros: their order is that of the frames.
        self.images = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not self.images:
            raise ValueError(
                f"Cityscapes: expected images as {folder}/<city>/*_leftImg8bit.png, found none; "
                "give the folder that holds leftImg8bit_sequence or leftImg8bit, and gtFine"
            )
        self.names = [path.name.removesuffix("_leftImg8bit.png") for path in self.images]
        self.truths = [self._truth(name) for name in self.names]
        self.videos = self._snippets() if sequences else []

    def _truth(self, name: str) -> Path | None:
        if self.split == "test":
            # The files there are for show: everything is void.
            return None
        stem = self.root / "gtFine" / self.split / name.split("_")[0] / f"{name}_gtFine_label"
        paths = (stem.with_name(f"{stem.name}{kind}.png") for kind in ("TrainIds", "Ids"))
        return next((path for path in paths if path.is_file()), None)

    def _snippets(self) -> list[range]:
        """Return ranges of frames of one city and sequence with numbers in a row, 30 at most in each."""
        starts, before = [], None
        for index, name in enumerate(self.names):
            found = re.fullmatch(r"(.+_\d+)_(\d+)", name)
            if not found:
                raise ValueError(f"Cityscapes: expected names as in aachen_000000_000019, got {name!r}")
            place = (found[1], int(found[2]))
            follows = before is not None and place == (before[0], before[1] + 1)
            if not follows or index - starts[-1] == SNIPPET:
                starts.append(index)
            before = place
        return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(self.names)], strict=True)]

    def decode(self, path: Path) -> np.ndarray:
        values = super().decode(path)
        return _TRAIN_IDS[values] if path.name.endswith("_labelIds.png") else values

    def write_submission(self, index: int, labels: Tensor, folder: str | Path) -> Path:
        """Write a frame's predicted classes as the benchmark wants them: labelIds, in a PNG named after the frame.

        Args:
            labels: uint8 ``(H, W)``, classes 0 to 18, at the image's own size.

        Returns:
            the file, ``<folder>/<city>_<sequence>_<frame>.png``; it appears whole or not at all.

        Raises:
            ValueError: another size, or a value that is no class.
        """
        with Image.open(self.images[index]) as image:
            width, height = image.size
        if tuple(labels.shape) != (height, width) or int(labels.max()) >= len(CLASSES):
            raise ValueError(
                f"write_submission: expected classes below {len(CLASSES)} at the image's {width}x{height}, "
                f"got values to {int(labels.max())} of shape {tuple(labels.shape)}; resize the labels to the image"
            )
        path = Path(folder) / f"{self.names[index]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = torch.tensor(LABEL_IDS, dtype=torch.uint8)[labels.long()]
        with whole_file(path) as part:
            Image.fromarray(values.numpy()).save(part, format="PNG")
        return path
