"""Simulated motion: what a still image looks like from a car a few frames later, for training without video.

A motion is a field of displacements on the current frame's grid, in the normalised coordinates of ``grid_sample``
(-1 to 1 across the image): ``current(x) = key(x + motion(x))``. Its strength is given as a number of frames of driving.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.augment import uniform

LONGEST = 10.0  # frames; the strengths below are those of this distance


def pixel_grid(count: int, height: int, width: int) -> Tensor:
    """Return the identity grid ``(count, height, width, 2)``, (x, y) in [-1, 1]."""
    theta = torch.eye(2, 3).expand(count, 2, 3)
    return F.affine_grid(theta, [count, 1, height, width], align_corners=False)


def simulate_motion(frames: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """Draw one motion for each entry of ``frames``.

    Forward driving down a street: expansion from a focus, strongest near the bottom and the sides, where things are
    close; turning (shift), rolling (rotation), pitching (perspective); a smooth residual; a few places that move on
    their own.

    Args:
        frames: ``(N,)`` distances in frames, 2 to 10 as the network meets them.

    Returns:
        displacements ``(N, height, width, 2)``.
    """
    count = len(frames)
    grid = pixel_grid(count, height, width)
    x, y = grid.unbind(-1)
    strength = (frames.float() / LONGEST).view(-1, 1, 1)

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, count, 1, 1)

    focus_x, focus_y = draw(-0.5, 0.5), draw(-0.4, 0.2)
    away_x, away_y = x - focus_x, y - focus_y
    # Inverse depth of a corridor: ground below the focus, walls at both sides; blended with a flat scene.
    corridor = torch.maximum((1.4 * away_y).clamp(min=0), 0.9 * away_x.abs()).clamp(max=1.5)
    flatness = draw(0, 1)
    closeness = flatness * 0.6 + (1 - flatness) * corridor
    expansion = -draw(-0.05, 0.45) * strength * closeness
    move_x, move_y = expansion * away_x, expansion * away_y

    shift_x = draw(-0.25, 0.25) * draw(0, 1) * strength
    shift_y = draw(-0.08, 0.08) * strength
    angle = torch.deg2rad(draw(-2, 2)) * strength
    tilt_x, tilt_y = draw(-0.06, 0.06) * strength, draw(-0.06, 0.06) * strength
    aspect = width / height
    move_x = move_x + shift_x - angle * y / aspect + x * (tilt_x * x + tilt_y * y)
    move_y = move_y + shift_y + angle * x * aspect + y * (tilt_x * x + tilt_y * y)
    move = torch.stack((move_x, move_y), 1)

    coarse = torch.randn(count, 2, 4, 5, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    move = move + smooth * (draw(0, 0.012) * strength)[:, None]

    for _ in range(3):
        # Inside half its radius a place moves as a whole; outside the radius not at all.
        centre_x, centre_y, radius = draw(-0.9, 0.9), draw(-0.4, 0.6), draw(0.1, 0.35)
        distance = ((x - centre_x) ** 2 + ((y - centre_y) / aspect) ** 2).sqrt() / radius
        inside = (2 - 2 * distance).clamp(0, 1)[:, None]
        own = torch.cat((draw(-0.12, 0.12), draw(-0.03, 0.03)), 1).view(count, 2, 1, 1)
        move = move + inside * own * strength[:, None]
    return move.permute(0, 2, 3, 1)
