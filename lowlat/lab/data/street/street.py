"""The procedural street as a data set."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lowlat.classes import CAMVID
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.data.street.render import View, flow, homographies, labels, look, seen_before
from lowlat.lab.data.street.scene import FPS, Scene, length, make_scene
from lowlat.lab.data.street.shade import colours

SPLITS = ("train", "val", "test")
SCENES, VIEWS = 32, 3  # held in memory


class Street(LabelledImages):
    """Video of a drive through made-up streets: CamVid's 11 classes, with hard cuts between scenes.

    Every frame follows from the seed, the split, its index and the size alone, so frames may be asked for in any order;
    in order is faster.

    Args:
        size: height and width.
        frames: how many there are.
        seed: another seed, other streets.
        split: another split, other streets.

    Raises:
        ValueError: an unknown split, a side below 16 pixels, no frames.

    Attributes:
        fps: frames a second of the world's time.
        videos: the scenes, from cut to cut.
    """

    classes, palette, fps = CAMVID.names, CAMVID.palette, FPS

    def __init__(self, seed: int = 0, size: tuple[int, int] = (360, 480), frames: int = 600, split: str = "train"):
        if split not in SPLITS:
            raise ValueError(f"Street: expected a split among {', '.join(SPLITS)}, got {split!r}")
        if min(size) < 16:
            raise ValueError(f"Street: expected sides of at least 16 pixels, got {size[1]}x{size[0]}")
        if frames < 1 or seed < 0:
            raise ValueError(f"Street: expected at least one frame and a seed from 0, got {frames=} and {seed=}")
        self.seed, self.size, self.split = seed, (int(size[0]), int(size[1])), split
        self.videos: list[range] = []
        start = 0
        while start < frames:
            stop = start + length(self._random(len(self.videos)))
            self.videos.append(range(start, min(stop, frames)))
            start = stop
        # Safe to ask from several threads: at worst two of them make the same one.
        self._scene = lru_cache(SCENES)(lambda number: make_scene(self._random(number)))
        self._view = lru_cache(VIEWS)(self._look)

    def __len__(self) -> int:
        return self.videos[-1].stop

    def image(self, index: int) -> Tensor:
        """Return an image, RGB, uint8 ``(3, H, W)``."""
        scene, time = self._at(index)
        camera = scene.drive.at(time, self.size)
        return torch.from_numpy(colours(self._view(index), scene.quads, scene.light, time, camera))

    def label(self, index: int) -> Tensor:
        """Return class indices, uint8 ``(H, W)``; nothing is void."""
        return torch.from_numpy(labels(self._view(index), self._at(index)[0].quads))

    def flow(self, index: int) -> Tensor:
        """Return the exact optical flow to the frame before, float32 ``(2, H, W)``: (x, y) in pixels.

        What pixel p of frame ``index`` sees was at p + flow in the frame before, hidden or not; 0 right after a cut.
        """
        if self._first(index):
            return torch.zeros(2, *self.size)
        scene, time = self._at(index)
        return torch.from_numpy(flow(self._view(index), self._homographies(scene, time - 1 / FPS)))

    def visible(self, index: int) -> Tensor:
        """Return whether the frame before saw the same surface at the pixel nearest to p + flow, bool ``(H, W)``; not
        after a cut."""
        if self._first(index):
            return torch.zeros(self.size, dtype=torch.bool)
        moved = self.flow(index).numpy()
        return torch.from_numpy(seen_before(self._view(index), self._view(index - 1), moved))

    def _random(self, scene: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(self.split), scene])

    def _first(self, index: int) -> bool:
        return any(index == video.start for video in self.videos)

    def _at(self, index: int) -> tuple[Scene, float]:
        """Return a frame's scene and its time within it, in seconds."""
        for number, video in enumerate(self.videos):
            if index in video:
                return self._scene(number), (index - video.start) / FPS
        raise IndexError(f"Street: expected an index from 0 to {len(self) - 1}, got {index}")

    def _look(self, index: int) -> View:
        scene, time = self._at(index)
        return look(scene.quads, time, scene.drive.at(time, self.size))

    def _homographies(self, scene: Scene, time: float) -> np.ndarray:
        return homographies(scene.quads, time, scene.drive.at(time, self.size))
