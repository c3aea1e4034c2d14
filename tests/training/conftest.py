"""A data set small enough to train and evaluate on in a test."""

import numpy as np
import pytest
from PIL import Image

from lowlat.data.camvid import VOID


@pytest.fixture(scope="package")
def camvid(tmp_path_factory):
    """A folder in CamVid's layout: coloured blocks, labelled by colour."""
    root = tmp_path_factory.mktemp("camvid")
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 12), ("test", 2)):
        lines = []
        for index in range(count):
            blocks = random.integers(0, VOID + 1, (6, 8))
            label = np.kron(blocks, np.ones((60, 60), int)).astype(np.uint8)
            image = np.stack([label * 20, 255 - label * 20, label * 7 % 255], -1).astype(np.uint8)
            Image.fromarray(image).save(root / f"{split}{index}.jpg")
            Image.fromarray(label).save(root / f"{split}{index}.png")
            lines.append(f"{split}{index}.jpg {split}{index}.png")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root
