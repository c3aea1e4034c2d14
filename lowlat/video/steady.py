"""`Steady`: labels that change less from frame to frame, shown in place of those that a result has."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from lowlat.runtime import FrameResult

MARGIN = 0.5
"""By how much another class must be ahead where nothing changed in the picture: a ratio of probabilities of 1.65."""
AT_ONCE = 1 << 17
"""Pixels that are compared at once: their scores fit a core's caches, and memory stays small however many change."""
STILL = 10.0
"""The difference of two pictures, in grey levels, at which the margin has fallen to 1 / e."""


class Steady:
    """Shows the labels of one video with less flicker: a pixel keeps its label until another class is clearly ahead.

        steady = Steady()
        for frame in camera:
            result = segmenter.step(frame, scores=True)
            show(steady(frame, result))

    Where the label of a pixel would change, the score of the new class must exceed that of the class shown before by
    ``margin * exp(-d / 10)``. d is how far the picture changed there since the frame before: the mean absolute
    difference, in grey levels, over the place of the score grid in which the pixel lies. So nothing is held at edges
    that move, nor behind a cut. The first frame, and one of another size than the frame before, show their own labels.

    Args:
        margin: the difference of scores, the logarithm of a ratio of probabilities; 0 holds ties alone.

    Raises:
        ValueError: ``margin`` is no number from 0 up.
    """

    def __init__(self, margin: float = MARGIN) -> None:
        if not isinstance(margin, Real) or isinstance(margin, bool) or not 0 <= margin < math.inf:
            raise ValueError(
                f"Steady: expected margin as a number from 0 up, got {margin!r}; leave it out for {MARGIN}"
            )
        self._margin = float(margin)
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, frame: np.ndarray, result: FrameResult) -> np.ndarray:
        """Return the labels to show for this frame, uint8 ``(H, W)``; those of ``result`` stay as they are.

        Args:
            frame: the frame, uint8 RGB ``(H, W, 3)``.
            result: its result, with scores.

        Raises:
            ValueError: the result has no scores, or the frame is no such array, or of another size than its labels.
        """
        if result.scores is None:
            raise ValueError("Steady: expected a result with scores, got one without; ask for them by scores=True")
        labels, scores = result.labels, result.scores
        if not isinstance(frame, np.ndarray) or frame.shape != (*labels.shape, 3):
            got = getattr(frame, "shape", type(frame).__name__)
            raise ValueError(
                f"Steady: expected a frame as an array of {(*labels.shape, 3)}, as its labels are, got {got}; give the "
                "frame that the result is of"
            )
        picture = _reduced(frame, scores.shape[1:])
        before, shown = self._before, labels
        if before is not None and before[0].shape == labels.shape and before[1].shape == picture.shape:
            shown = self._held(before[0], labels, scores, np.abs(picture - before[1]).mean(2))
        # Whoever draws into the labels that were shown changes none of those that come.
        self._before = shown.copy(), picture
        return shown

    def forget(self) -> None:
        """Begin anew: the next frame shows its own labels, as the first one does."""
        self._before = None

    def _held(self, before: np.ndarray, labels: np.ndarray, scores: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Return the labels where each pixel of `labels` has kept that of `before`, unless the margin is exceeded."""
        (height, width), (h, w) = labels.shape, scores.shape[1:]
        margin, shown = self._margin * np.exp(changed / -STILL), labels.copy()
        changes = np.flatnonzero(labels != before)
        for first in range(0, len(changes), AT_ONCE):
            row, column = np.divmod(changes[first : first + AT_ONCE], width)
            old, new = before[row, column], labels[row, column]
            # A class that these scores lack is one that a network before had.
            known = old < len(scores)
            ahead, behind = (
                _between(scores, classes, row, column, labels.shape) for classes in (new, np.where(known, old, new))
            )
            keep = known & (ahead - behind <= margin[row * h // height, column * w // width])
            shown[row[keep], column[keep]] = old[keep]
        return shown


def _reduced(frame: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the frame at the size of the score grid, float32 ``(h, w, 3)``: each place the mean of four pixels."""
    sides = zip(grid, frame.shape[:2], strict=True)
    rows, columns = (((np.arange(2 * n) + 0.5) * side / (2 * n)).astype(int) for n, side in sides)
    return frame[rows][:, columns].reshape(grid[0], 2, grid[1], 2, 3).mean((1, 3), dtype=np.float32)


def _between(
    scores: np.ndarray, classes: np.ndarray, row: np.ndarray, column: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return the score of a class at each of some pixels, by the bilinear interpolation that labels come from."""
    (top, bottom, down), (left, right, across) = (
        _neighbours(place, n, pixels) for place, n, pixels in zip((row, column), scores.shape[1:], size, strict=True)
    )
    above = scores[classes, top, left] * (1 - across) + scores[classes, top, right] * across
    below = scores[classes, bottom, left] * (1 - across) + scores[classes, bottom, right] * across
    return above * (1 - down) + below * down


def _neighbours(place: np.ndarray, scores: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores before and behind each pixel of an axis, and how far it lies from the one to the other."""
    at = np.clip((place + 0.5) * (scores / pixels) - 0.5, 0, scores - 1).astype(np.float32)
    first = at.astype(int)
    return first, np.minimum(first + 1, scores - 1), at - first
