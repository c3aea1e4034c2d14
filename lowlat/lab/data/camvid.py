"""CamVid in the SegNet split: 11 classes at 480x360, for training and evaluation.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009. Non-commercial licence.
"""

from __future__ import annotations

from pathlib import Path

from lowlat.classes import CAMVID
from lowlat.lab.data.files import LabelledFiles

VOID = len(CAMVID)


class CamVid(LabelledFiles):
    """One list (``train``, ``val`` or ``test``) of a CamVid folder in the SegNet layout.

    Each line of ``<root>/<split>.txt`` reads ``image label``, relative to ``root``. If it holds an absolute path that
    does not exist, as ``/SegNet/CamVid/train/x.png`` in SegNet's own lists, the last two parts of it are relative to
    ``root``. ``val`` is a video: 101 labelled frames in order at 15 Hz.

    Raises:
        ValueError: the folder or the list is not there, or a line names no such file.
    """

    classes, palette = CAMVID.names, CAMVID.palette

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = Path(root), split
        path = self.root / f"{split}.txt"
        if not path.is_file():
            raise ValueError(f"CamVid: expected a list at {path}, found none; give the folder that holds train.txt")
        lines = path.read_text().splitlines()
        pairs = [tuple(map(self._place, line.split())) for line in lines if line.strip()]
        for pair in pairs:
            if len(pair) != 2 or not all(part.is_file() for part in pair):
                raise ValueError(f"CamVid: expected lines 'image label' naming files in {path}, got {pair}")
        self.images, self.truths = zip(*pairs, strict=True) if pairs else ((), ())
        self.videos = [range(len(pairs))] if split == "val" else []

    def _place(self, name: str) -> Path:
        path = Path(name)
        moved = path.is_absolute() and not path.is_file()
        return self.root.joinpath(*path.parts[-2:] if moved else path.parts)
