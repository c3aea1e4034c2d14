"""Colours of a view: textures, sun and shade, haze, the camera's exposure."""

from __future__ import annotations

import numpy as np

from lowlat.classes import CAMVID
from lowlat.lab.data.street.atlas import atlas
from lowlat.lab.data.street.camera import Camera
from lowlat.lab.data.street.ground import PITCH
from lowlat.lab.data.street.light import Light
from lowlat.lab.data.street.quads import GROUND, SKY, Quads
from lowlat.lab.data.street.render import View
from lowlat.lab.data.street.shadows import shadows

HAZE = 420.0  # metres to 1 / e of the contrast
GRAIN = 8.0  # metres of a tile of the asphalt's grain
CLOUDS = 0.11  # tiles of clouds a unit of the sky
BAND = 1 << 15  # pixels
AMBIENT = np.array([0.6, 0.64, 0.7])
HORIZON = np.array([206, 214, 222], np.float32)


def colours(view: View, quads: Quads, light: Light, time: float, camera: Camera) -> np.ndarray:
    """Return the picture of a view, RGB, uint8 ``(3, H, W)``."""
    height, width = view.quad.shape
    factor = quad_light(view, quads, light, time)
    patches = shadows(view, quads, time, camera)
    image = np.empty((3, height, width), np.float32)
    # Bands of rows, so that what lies between two steps stays in the cache.
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        image[:, band] = _band(
            View(*(part[band] for part in view[:4]), *view[4:]), quads, factor, patches[band], light, time
        )
    return _soften(image, view.quad)


def _band(view: View, quads: Quads, factor: np.ndarray, patches: np.ndarray, light: Light, time: float) -> np.ndarray:
    """Return the colours of a band of rows, float32 ``(3, H, W)`` in [0, 255]."""
    quad, a, b, nearness = (part.reshape(-1) for part in view[:4])
    strength, exposure = light.at(time)
    ground, sky = np.flatnonzero(quad == GROUND), np.flatnonzero(quad == SKY)
    level = view.spread.take(quad) - np.float32(1.5) * np.log2(np.maximum(nearness, np.float32(1e-4)))
    u, v = a.copy(), b.copy()
    x, z = a.take(ground), b.take(ground)
    u[ground], v[ground] = _tiled(x, PITCH), _tiled(z, PITCH)
    level[ground] -= np.float32(np.log2(PITCH))
    east, north = a.take(sky), b.take(sky)
    away = east * east + north * north
    u[sky], v[sky] = (_tiled(e, 1 / CLOUDS, s) for e, s in zip((east, north), light.clouds, strict=True))
    level[sky] = np.float32(-2.5) + np.float32(0.75) * np.log2(1 + away)
    result = atlas().sample(quads.texture.take(quad), u, v, (level + np.float32(0.5)).astype(np.intp))

    sun = light.sunlit(x, z)
    grain = _grain(x, z, nearness.take(ground)) * patches.reshape(-1).take(ground)
    haze = np.exp(np.float32(-1 / HAZE) / np.maximum(nearness, np.float32(1e-5)))
    haze[sky] = 1 / (1 + np.float32(0.012) * away)
    for channel in range(3):
        tone = factor[:, channel].take(quad)
        warmth = np.float32(0.75 * strength * light.sun[1] * light.warmth[channel])
        tone[ground] = (np.float32(AMBIENT[channel]) + sun * warmth) * grain
        colour = result[channel]
        colour *= tone
        colour -= HORIZON[channel]
        colour *= haze
        colour += HORIZON[channel]
    result *= np.float32(exposure)
    return np.clip(result, 0, 255, out=result).reshape(3, *view.quad.shape)


def _tiled(place: np.ndarray, size: float, start: float = 0.5) -> np.ndarray:
    """Return places as positions in [0, 1) of a tile that repeats; place 0 lies at ``start``."""
    tiles = place * np.float32(1 / size) + np.float32(start)
    return tiles - np.floor(tiles)


def quad_light(view: View, quads: Quads, light: Light, time: float) -> np.ndarray:
    """Return the RGB light on each quad, float32 ``(n, 3)``: ambient, and the sun by slope and shade at its foot."""
    strength, _ = light.at(time)
    slope = np.clip(view.normals @ light.sun, 0, None)
    # A quad that turns to the camera stands for something round, of which the sun always lights some part.
    upright = np.arange(len(quads)) >= quads.rigid_count
    slope[upright] = 0.62
    building = quads.kind == CAMVID.names.index("building")
    sunlit = np.where(building, 1.0, 0.25 + 0.75 * light.sunlit(view.feet[:, 0], view.feet[:, 1]))
    lit = 0.75 * strength * (slope * sunlit)[:, None] * np.array(light.warmth)
    factor = (quads.tint * (AMBIENT + lit)).astype(np.float32)
    factor[SKY] = 1
    return factor


def _grain(x: np.ndarray, z: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """Return fine grain of the ground, which fades with distance."""
    texture = np.full(1, atlas().number["grain"], np.intp)
    grain = atlas().sample(texture, _tiled(x, GRAIN), _tiled(z, GRAIN), np.zeros(1, np.intp))[0]
    return 1 + (grain * np.float32(1 / 128) - 1) * np.minimum(nearness * 6, 1)


def _soften(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Average the pixels at the edges of surfaces with their neighbours."""
    edge = np.zeros(quad.shape, bool)
    across, down = quad[:, 1:] != quad[:, :-1], quad[1:] != quad[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    rows, columns = np.nonzero(edge)
    height, width = quad.shape
    index = rows * width + columns
    neighbours = (
        np.maximum(rows - 1, 0) * width + columns,
        np.minimum(rows + 1, height - 1) * width + columns,
        rows * width + np.maximum(columns - 1, 0),
        rows * width + np.minimum(columns + 1, width - 1),
    )
    flat = image.reshape(3, -1)
    softened = flat.take(index, 1) * 4 + sum(flat.take(place, 1) for place in neighbours)
    result = flat.astype(np.uint8)
    result[:, index] = softened / 8
    return result.reshape(3, height, width)
