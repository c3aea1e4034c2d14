"""Temporal consistency: does a place keep its label from one frame to the next, once its motion is taken out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor


class KnownMotion(Protocol):
    """Data with exact optical flow."""

    def flow(self, index: int) -> Tensor:
        """Return the optical flow, float32 ``(2, H, W)``, (x, y) in pixels: pixel x of frame ``index`` was at x + flow
        in the frame before."""

    def visible(self, index: int) -> Tensor:
        """Return whether that place could be seen in the frame before, bool ``(H, W)``."""


class Motion(NamedTuple):
    """The places where the pixels of a frame were in the frame before, for those that could be seen there."""

    visible: np.ndarray  # bool (H, W)
    y: np.ndarray  # int (n,): the row in the frame before of each visible pixel, in order
    x: np.ndarray  # int (n,): the column


def motions(data: KnownMotion, frames: range) -> list[Motion]:
    """Return the exact motion of every frame of ``frames`` but the first."""
    found = []
    for index in frames[1:]:
        flow, visible = data.flow(index).numpy(), data.visible(index).numpy()
        height, width = visible.shape
        y, x = np.mgrid[:height, :width]
        x, y = np.rint(x + flow[0]).astype(int), np.rint(y + flow[1]).astype(int)
        visible = visible & (0 <= x) & (x < width) & (0 <= y) & (y < height)
        found.append(Motion(visible, y[visible], x[visible]))
    return found


def consistency(labels: Sequence[np.ndarray], motion: Sequence[Motion]) -> float:
    """Percent of the visible pixels whose label agrees with the one their place had in the frame before.

    Args:
        labels: the label maps of consecutive frames, uint8 ``(H, W)`` each.
        motion: the motion of all of these frames but the first.
    """
    agreed = seen = 0
    for before, after, moved in zip(labels, labels[1:], motion, strict=False):
        agreed += int((after[moved.visible] == before[moved.y, moved.x]).sum())
        seen += len(moved.x)
    return 100 * agreed / max(1, seen)
