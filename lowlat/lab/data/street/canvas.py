"""Drawing the street's textures: shapes in metres, smooth edges, natural noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


class Canvas:
    """A picture of ``width`` x ``height`` metres, transparent at first; x to the right, y up from the bottom edge.

    It is drawn ``finer`` times larger, then averaged.
    """

    def __init__(self, width: float, height: float, per_metre: float, finer: int = 3):
        self.width, self.height = width, height
        self.size = (max(2, round(width * per_metre)), max(2, round(height * per_metre)))
        self._scale = (self.size[0] * finer / width, self.size[1] * finer / height)
        self._image = Image.new("RGBA", (self.size[0] * finer, self.size[1] * finer))
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return x * self._scale[0], (self.height - y) * self._scale[1]

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Draw a rectangle by its lower left corner."""
        (left, bottom), (right, top) = self._at(x, y), self._at(x + width, y + height)
        self._draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), colour)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self._draw.polygon([self._at(*point) for point in points], colour)

    def ellipse(self, x: float, y: float, across: float, up: float, colour: Colour) -> None:
        """Draw an ellipse by its centre and half its sides."""
        (left, bottom), (right, top) = self._at(x - across, y - up), self._at(x + across, y + up)
        self._draw.ellipse((left, top, right, bottom), colour)

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        self._draw.line([self._at(*p) for p in points], colour, max(1, round(width * self._scale[0])), joint="curve")

    def pixels(self, random: np.random.Generator | None = None, strength: float = 0.1, roughness: float = 1.0):
        """Return RGB and opacity, uint8 ``(h, w, 4)``, with noise of relative ``strength`` over the colours."""
        # Averaged with premultiplied colours, so that edges don't darken.
        image = self._image.convert("RGBa").resize(self.size, Image.Resampling.BOX).convert("RGBA")
        pixels = np.array(image)
        if random is not None:
            pixels = roughen(pixels, random, strength, roughness)
        return pixels


def noise(random: np.random.Generator, height: int, width: int, roughness: float = 1.0) -> np.ndarray:
    """Return noise of mean 0 and deviation 1 that tiles, float32 ``(height, width)``.

    Its amplitude falls as frequency ** -roughness.
    """
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal((height, width))) * frequency**-roughness
    values = np.fft.irfft2(spectrum, (height, width))
    return (values / values.std()).astype(np.float32)


def roughen(pixels: np.ndarray, random: np.random.Generator, strength: float, roughness: float = 1.0) -> np.ndarray:
    """Multiply the colours of uint8 ``(h, w, 4)`` by ``1 + strength * noise``."""
    factor = 1 + strength * noise(random, *pixels.shape[:2], roughness)
    result = pixels.copy()
    result[..., :3] = np.clip(pixels[..., :3] * factor[..., None], 0, 255)
    return result


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """Return ``colour`` with a ``share`` of ``other`` mixed in."""
    return tuple(round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
