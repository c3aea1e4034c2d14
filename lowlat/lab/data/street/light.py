"""Sun, shade, haze and exposure of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lowlat.lab.data.street.ground import WALL, from_middle

ROOFS = 10.5  # metres; how high the shading buildings are taken to be


@dataclass(frozen=True)
class Light:
    """The light of a clear or overcast day.

    Attributes:
        sun: unit vector towards the sun.
        strength: the sun's share of the light when no cloud is before it.
        cloud: when a cloud passes, in seconds; far off for never.
        exposure: mean, swing, rate and phase of the camera's exposure.
        warmth: RGB of the sunlight.
        clouds: where the sky begins in the picture of clouds, in tiles.
    """

    sun: np.ndarray
    strength: float
    cloud: float
    exposure: tuple[float, float, float, float]
    warmth: tuple[float, float, float]
    clouds: tuple[float, float]

    def at(self, time: float) -> tuple[float, float]:
        """Return the sun's share and the exposure at ``time``."""
        covered = 0.75 * np.exp(-(((time - self.cloud) / 1.6) ** 2))
        mean, swing, rate, phase = self.exposure
        return self.strength * (1 - covered), mean * (1 + swing * np.sin(rate * time + phase)) * (1 + 0.25 * covered)

    def sunlit(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the share of the sun on the ground at places in metres: 0 in the buildings' shade."""
        return 1 - np.maximum(self._shade(x, z, 0), self._shade(z, x, 2))

    def _shade(self, across: np.ndarray, along: np.ndarray, axis: int) -> np.ndarray:
        """Return the shade in the streets that run along the other axis, by the buildings on the sun's side."""
        reach = ROOFS * abs(self.sun[axis]) / self.sun[1]
        side = np.float32(np.sign(self.sun[axis]))
        edge = from_middle(across) * side - np.float32(WALL - reach)
        built = np.abs(from_middle(along)) - np.float32(WALL)
        return np.clip(np.minimum(edge, built) * 2, 0, 1)
