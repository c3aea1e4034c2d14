"""From quads to pixels: which surface each pixel sees and where on it; colours, labels and flow follow from that.

A quad's place (a, b) projects to the image by a homography, ``(x, y, 1) ~ H (a, b, 1)``, whose third row gives the
depth: the inverse finds the place under a pixel, and the frame before's H finds where that place was.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lowlat.classes import CAMVID
from lowlat.lab.data.street.atlas import LEVELS, atlas
from lowlat.lab.data.street.camera import Camera
from lowlat.lab.data.street.ground import is_road
from lowlat.lab.data.street.quads import GROUND, SKY, Quads

NEAR = 0.2  # metres
SMALLEST = 2.0  # pixels; what is smaller both ways is left out
APART = 2e-5  # depths of quads in one plane, so that the later one lies above


class View(NamedTuple):
    """What each pixel of a camera sees: a quad, and the place (a, b) on it.

    Places run over a quad from 0 to 1; on the ground they are metres, in the sky directions.
    """

    quad: np.ndarray  # intp (H, W)
    a: np.ndarray  # float32 (H, W)
    b: np.ndarray  # float32 (H, W)
    nearness: np.ndarray  # float32 (H, W): 1 / metres, 0 in the sky
    spread: np.ndarray  # float32 (quads,): level of detail of each quad at one metre
    feet: np.ndarray  # float64 (quads, 2): x, z of the quads' lower edges
    normals: np.ndarray  # float64 (quads, 3)


def homographies(quads: Quads, time: float, camera: Camera) -> np.ndarray:
    """Return the homography of every quad, ``(n, 3, 3)``, as the head of this file defines it."""
    return camera.projection @ quads.poses(time, camera.eye)


def look(quads: Quads, time: float, camera: Camera) -> View:
    """Find what every pixel sees."""
    height, width = camera.size
    poses = quads.poses(time, camera.eye)
    forward = camera.projection @ poses
    det = np.linalg.det(forward)
    windows, nearest = boxes(forward, height, width)
    shown = (np.abs(det) > 1e-9) & (quads.sided * det >= 0) & (windows[:, :2] < windows[:, 2:]).all(1)
    shown[[GROUND, SKY]] = False
    order = np.flatnonzero(shown)
    order = order[np.argsort(nearest[order], kind="stable")]
    needed = np.append(order, [GROUND, SKY])
    inverse = np.zeros(forward.shape, np.float32)
    inverse[needed] = np.linalg.inv(forward[needed]) * (1 + APART * (needed % 64)[:, None, None])
    spread = np.zeros(len(quads), np.float32)
    spread[needed] = 0.5 * np.log2(atlas().size[quads.texture[needed]].prod(1) / np.abs(det[needed]))

    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    view = _background(inverse, x, y)
    # A ray along a quad's plane meets it nowhere; such a pixel fails every comparison below.
    with np.errstate(divide="ignore", invalid="ignore"):
        for number, window, depth in zip(order.tolist(), windows[order].tolist(), nearest[order].tolist(), strict=True):
            _draw(view, number, inverse[number], window, x, y, depth, spread, quads)
    feet = (poses[:, :, 2] + poses[:, :, 0] / 2 + poses[:, :, 1] + camera.eye)[:, [0, 2]]
    normals = np.cross(poses[:, :, 1], poses[:, :, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return View(*view, spread, feet, normals)


def boxes(forward: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel boxes (left, top, right, bottom; ends excluded) of quads by their homographies, and their least
    depths."""
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1.0]])
    points = forward @ corners.T  # (n, 3, 4)
    following = np.roll(points, -1, 2)
    depth, after = points[:, 2], following[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where an edge passes the near plane.
        share = (NEAR - depth) / (after - depth)
        cut = points + share[:, None] * (following - points)
        crossing = (depth < NEAR) != (after < NEAR)
        candidates = np.concatenate((points, cut), 2)
        valid = np.concatenate((depth >= NEAR, crossing), 1)
        places = candidates[:, :2] / candidates[:, 2:]
    least = np.where(valid[:, None], places, np.inf).min(2)
    most = np.where(valid[:, None], places, -np.inf).max(2)
    small = (most - least < SMALLEST).all(1)
    low = np.clip(np.ceil(least), 0, [width, height])
    high = np.clip(np.floor(most) + 1, 0, [width, height])
    high[small | ~valid.any(1)] = 0
    return np.concatenate((low, high), 1).astype(np.int64), np.maximum(depth.min(1), NEAR)


def _background(inverse: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Fill every pixel with the ground or the sky."""

    def place(number: int) -> tuple[np.ndarray, ...]:
        a, b, q = (row[0] * x + (row[1] * y + row[2])[:, None] for row in inverse[number])
        safe = np.where(np.abs(q) > 1e-4, q, np.float32(1e-4))
        return q, a / safe, b / safe

    nearness, a, b = place(GROUND)
    _, sky_a, sky_b = place(SKY)
    sky = nearness <= 0
    quad = np.where(sky, np.intp(SKY), np.intp(GROUND))
    return quad, np.where(sky, sky_a, a), np.where(sky, sky_b, b), np.where(sky, np.float32(0), nearness)


def _draw(view, number: int, h, box, x, y, nearest: float, spread, quads: Quads) -> None:
    """Draw one quad where it is nearer than what is there."""
    left, top, right, bottom = box
    window = (slice(top, bottom), slice(left, right))
    nearness = view[3][window]
    # The whole quad is hidden behind what was drawn before.
    if np.minimum.reduce(nearness, axis=None) * nearest > 1:
        return
    x, y = x[left:right], y[top:bottom, None]
    q = h[2, 0] * x + (h[2, 1] * y + h[2, 2])
    hit = q > nearness
    if not hit.any():
        return
    depth = 1 / q
    u = (h[0, 0] * x + (h[0, 1] * y + h[0, 2])) * depth
    v = (h[1, 0] * x + (h[1, 1] * y + h[1, 2])) * depth
    hit &= (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    masks = atlas().masks[quads.texture[number]]
    if masks is not None:
        level = spread[number] + 1.5 * math.log2(nearest) + 0.3
        mask = masks[min(max(int(level), 0), LEVELS - 1)]
        rows, columns = np.where(hit, v, 0) * mask.shape[0], np.where(hit, u, 0) * mask.shape[1]
        hit &= mask[rows.astype(np.intp), columns.astype(np.intp)]
    for buffer, values in zip(view, (number, u, v, q), strict=True):
        np.copyto(buffer[window], values, where=hit)


def labels(view: View, quads: Quads) -> np.ndarray:
    """Return the label map of a view: CamVid's classes, uint8 ``(H, W)``."""
    result = quads.kind.take(view.quad)
    ground = view.quad == GROUND
    pavement = ground & ~is_road(np.where(ground, view.a, 0), np.where(ground, view.b, 0))
    result[pavement] = CAMVID.names.index("pavement")
    return result


def flow(view: View, before: np.ndarray) -> np.ndarray:
    """Return the flow, float32 ``(2, H, W)``: where each pixel's place was, by the homographies of then, less where it
    is."""
    h = before.reshape(-1, 9).astype(np.float32).take(view.quad.reshape(-1), 0).reshape(*view.quad.shape, 9)
    a, b = view.a, view.b
    x, y, depth = (h[..., row] * a + h[..., row + 1] * b + h[..., row + 2] for row in (0, 3, 6))
    height, width = view.quad.shape
    # Nothing in front of the camera was at depth 0 or behind: such places went far outside the image.
    depth = np.where(depth > 1e-3, depth, np.float32(1e-3))
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return np.stack((x / depth - columns, y / depth - rows))


def seen_before(view: View, before: View, flow: np.ndarray) -> np.ndarray:
    """Return whether the pixel nearest to where a place was saw the same surface then: bool ``(H, W)``."""
    height, width = view.quad.shape
    x = np.rint(flow[0] + np.arange(width, dtype=np.float32))
    y = np.rint(flow[1] + np.arange(height, dtype=np.float32)[:, None])
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = np.where(inside, y * width + x, 0).astype(np.int64)
    return inside & (before.quad.reshape(-1).take(index) == view.quad)
