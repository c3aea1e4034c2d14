"""A video small enough to learn from in seconds."""

import numpy as np
from PIL import Image


def moving(folder, seed):
    """Make a folder of sixty frames of a blurred picture that slides by."""
    folder.mkdir()
    noise = np.random.default_rng(seed).integers(0, 256, (12, 30, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(noise).resize((150, 60)))
    for index in range(60):
        Image.fromarray(picture[:48, index : index + 64]).save(folder / f"{index:02}.png")
    return folder
