"""`synthetic_frames`: a source without files or decoder, for measuring everything but the source."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SHIFT = 3
"""How many pixels the picture moves in a frame."""
STEPS = 16
"""How many frames the movement takes from one end to the other."""


def synthetic_frames(width: int, height: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield uint8 RGB frames ``(height, width, 3)`` without end: a smooth random picture that moves to the side and
    back.

    All frames are made beforehand, so that yielding one costs no time.

    Raises:
        ValueError: a side below 8 pixels.
    """
    if min(width, height) < 8:
        raise ValueError(f"synthetic_frames: expected sides of at least 8 pixels, got {width}x{height}")
    return _moving(width, height, np.random.default_rng(seed))


def _moving(width: int, height: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    reach = SHIFT * STEPS
    grid = random.integers(0, 256, (height // 16 + 2, (width + reach) // 16 + 2, 3))
    rows, columns = np.arange(height) / 16, np.arange(width + reach) / 16
    picture = _between(_between(grid, rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)
    frames = [
        np.ascontiguousarray(picture[:, step * SHIFT : step * SHIFT + width].round().astype(np.uint8))
        for step in range(STEPS)
    ]
    to_and_fro = frames + frames[-2:0:-1]
    while True:
        yield from to_and_fro


def _between(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate values linearly at fractional places along the first axis."""
    below = places.astype(int)
    part = (places - below)[:, None, None]
    return values[below] * (1 - part) + values[below + 1] * part
