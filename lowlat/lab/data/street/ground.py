"""The ground of a town whose streets form a grid: measures in metres, what is road and what pavement, its picture.

Streets run along both axes, one every ``PITCH``; a place's distance to the nearest street's middle tells what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lowlat.lab.data.street.canvas import Canvas, roughen

PITCH = 64.0
KERB = 5.6  # from the middle of the street; two lanes and two rows of parked cars
WALL = 10.2  # where the buildings begin
LANE = 1.8  # the middle of a lane; traffic keeps left
PARKED = 4.6


def from_middle(place: np.ndarray) -> np.ndarray:
    """Return the signed distance in metres from the nearest street's middle, along one axis."""
    return place - PITCH * np.rint(place / np.float32(PITCH))


def is_road(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Whether places are road rather than pavement."""
    return (np.abs(from_middle(x)) < KERB) | (np.abs(from_middle(z)) < KERB)


def ground_textures(random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Draw one tile of the grid with a crossing in its middle, ``PITCH`` wide."""
    middle = PITCH / 2
    tile = Canvas(PITCH, PITCH, 20, finer=1)
    tile.box(0, 0, PITCH, PITCH, (166, 158, 150))
    for slab in range(int(PITCH / 0.8)):
        tile.box(0, slab * 0.8, PITCH, 0.05, (140, 133, 127))
        tile.box(slab * 0.8, 0, 0.05, PITCH, (140, 133, 127))
    kerb, road = (190, 186, 178), (92, 92, 96)
    for wide, colour in ((KERB, kerb), (KERB - 0.15, (70, 70, 72)), (KERB - 0.35, road)):
        tile.box(middle - wide, 0, 2 * wide, PITCH, colour)
        tile.box(0, middle - wide, PITCH, 2 * wide, colour)
    for _ in range(26):
        across, along = random.random() * 9 - 5, random.random() * PITCH
        light = random.uniform(0.86, 1.1)
        shade = tuple(int(value * light) for value in road)
        size = 0.6 + 2.5 * random.random(2)
        corner = (middle + across, along) if random.random() < 0.5 else (along, middle + across)
        tile.box(*corner, *size, shade)
    tile_pixels = roughen(tile.pixels(), random, 0.06, 1.2)
    paint = Canvas(PITCH, PITCH, 20, finer=1)
    _markings(paint, middle)
    marked = paint.pixels(random, 0.06, 0.8)
    share = marked[..., 3:] / 255 * 0.85
    tile_pixels[..., :3] = tile_pixels[..., :3] * (1 - share) + marked[..., :3] * share
    yield "ground", tile_pixels


def _markings(paint: Canvas, middle: float) -> None:
    """Draw broken middle lines, bays of parked cars, stop lines and zebra crossings before the crossing."""
    white, yellow = (226, 226, 220), (214, 186, 70)

    def both(across: float, along: float, wide: float, long: float, colour=white) -> None:
        paint.box(middle + across, along, wide, long, colour)
        paint.box(along, middle + across, long, wide, colour)

    for number in range(int(PITCH / 4)):
        start = number * 4.0 + 1
        if abs(start + 1 - middle) > KERB + 5:
            both(-0.07, start, 0.14, 2.2)
    for side in (-1, 1):
        for start, long in ((0, middle - KERB - 5), (middle + KERB + 5, middle - KERB - 5)):
            both(side * (KERB - 0.55) - 0.05, start, 0.1, long, yellow)
        begin = middle + side * (KERB + 2.4) - 1.3
        for bar in range(9):
            both(-KERB + 0.75 + bar * 1.2, begin, 0.6, 2.6)
        stop = middle + side * (KERB + 4.4)
        both(-KERB + 0.7 if side < 0 else 0.1, stop - 0.15, KERB - 0.8, 0.3)
