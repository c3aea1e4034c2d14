"""All textures in one flat array, with their halved sizes, so that one gather serves a whole frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lowlat.lab.data.street.textures import draw_textures

LEVELS = 9


class Atlas:
    """Textures by number, at ``LEVELS`` sizes each.

    Attributes:
        number: a texture's number by its name.
        size: float32 ``(n, 2)``, width and height in texels.
        texels: uint32, four bytes RGBA each; level l of texture i starts at ``offset[i * LEVELS + l]``, its rows are
            ``pitch`` of the same index apart.
        masks: for textures with holes, opacity by level as bool ``(h, w)``; None for the others.
    """

    def __init__(self, textures: dict[str, np.ndarray]):
        self.number = {name: index for index, name in enumerate(textures)}
        self.size = np.array([pixels.shape[1::-1] for pixels in textures.values()], np.float32)
        self.masks: list[list[np.ndarray] | None] = []
        parts, shapes = [], []
        for pixels in textures.values():
            levels = _levels(pixels)
            opaque = bool((pixels[..., 3] == 255).all())
            self.masks.append(None if opaque else [level[..., 3] >= 0.5 * 255 for level in levels])
            parts += [level.round().astype(np.uint8).reshape(-1, 4) for level in levels]
            shapes += [level.shape[:2] for level in levels]
        self.texels = np.ascontiguousarray(np.concatenate(parts)).view(np.uint32).reshape(-1)
        self.height, self.width = np.array(shapes, np.float32).T.copy()
        self.pitch = self.width.astype(np.intp)
        ends = np.cumsum([rows * columns for rows, columns in shapes])
        self.offset = np.concatenate(([0], ends[:-1]))

    def sample(self, texture: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Return colours, float32 ``(3, n)``, at places in [0, 1] of textures, bilinear within the level.

        Weights are whole 256ths, so that red and blue can be weighted in one word, and green beside them.
        """
        row = texture * LEVELS + np.clip(level, 0, LEVELS - 1)
        offset, pitch = self.offset.take(row), self.pitch.take(row)
        # From the middle of the first texel to that of the last one, by axis.
        last_x, last_y = self.width.take(row) - 1, self.height.take(row) - 1
        x, y = (
            np.clip(place * (last + 1) - np.float32(0.5), 0, last, dtype=np.float32)
            for place, last in ((u, last_x), (v, last_y))
        )
        left, top = x.astype(np.intp), y.astype(np.intp)
        place = offset + top * pitch + left
        # At the far edges the next texel is the same one.
        step, below = x < last_x, np.where(y < last_y, pitch, 0)
        x, y = (((part - whole) * 16).astype(np.uint32) for part, whole in ((x, left), (y, top)))
        both = x * y
        weights = (256 - 16 * x - 16 * y + both, 16 * x - both, 16 * y - both, both)
        red_blue = green = np.uint32(0)
        for index, weight in zip((place, place + step, place + below, place + below + step), weights, strict=True):
            texel = self.texels.take(index)
            red_blue = red_blue + (texel & np.uint32(0xFF00FF)) * weight
            green = green + (texel >> np.uint32(8) & np.uint32(0xFF)) * weight
        result = np.empty((3, len(place)), np.float32)
        result[0], result[1], result[2] = red_blue >> 8 & 0xFF, green >> 8, red_blue >> 24
        return result


def _levels(pixels: np.ndarray) -> list[np.ndarray]:
    """Return float32 ``(h, w, 4)`` and its halves, each the average of four."""
    levels = [pixels.astype(np.float32)]
    clear = pixels[..., 3] == 0
    if clear.any():
        # What lies under holes bleeds into the smaller levels; the mean colour does no harm.
        levels[0][clear, :3] = pixels[~clear, :3].mean(0)
    for _ in range(LEVELS - 1):
        last = levels[-1]
        last = np.pad(last, ((0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)), mode="edge")
        levels.append(last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2, 4).mean((1, 3)))
    return levels


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """Return the textures of every street."""
    return Atlas(draw_textures())
