"""The dark patches under cars, trees and people: soft ellipses on the ground."""

from __future__ import annotations

import numpy as np

from lowlat.lab.data.street.camera import Camera
from lowlat.lab.data.street.quads import GROUND, Quads
from lowlat.lab.data.street.render import View, boxes

FARTHEST = 60.0  # metres


def shadows(view: View, quads: Quads, time: float, camera: Camera) -> np.ndarray:
    """Return the factor on the ground's light at each pixel, float32 ``(H, W)``."""
    factor = np.ones(view.quad.shape, np.float32)
    middle, along, across = quads.shadows(time)
    poses = np.stack((2 * along, 2 * across, middle - along - across - camera.eye), 2)
    windows, nearest = boxes(camera.projection @ poses, *camera.size)
    near = (nearest < FARTHEST) & (windows[:, :2] < windows[:, 2:]).all(1)
    for number in np.flatnonzero(near).tolist():
        left, top, right, bottom = windows[number]
        window = (slice(top, bottom), slice(left, right))
        # Places on the ground in half axes of the ellipse; elsewhere they mean nothing and are left alone.
        x, z = view.a[window] - np.float32(middle[number, 0]), view.b[window] - np.float32(middle[number, 2])
        first, second = (axis[number] / (axis[number] @ axis[number]) for axis in (along, across))
        u, v = (x * np.float32(axis[0]) + z * np.float32(axis[2]) for axis in (first, second))
        dark = np.clip(1.25 - u * u - v * v, 0, 1)
        factor[window] *= np.where(view.quad[window] == GROUND, 1 - np.float32(0.6) * dark, np.float32(1))
    return factor
