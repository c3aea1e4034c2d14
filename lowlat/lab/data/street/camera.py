"""A camera behind a windscreen: where it is along its way, and how it projects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lowlat.lab.data.street.ground import LANE, PITCH

HEIGHT = 1.5  # metres
FIELD = 0.95  # focal length by the geometric mean of the sides


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. ``rotation`` has the rows right, down, forward; the principal point is the image's middle."""

    eye: np.ndarray
    rotation: np.ndarray
    size: tuple[int, int]

    @property
    def focal(self) -> float:
        """The focal length in pixels."""
        return FIELD * (self.size[0] * self.size[1]) ** 0.5

    @property
    def projection(self) -> np.ndarray:
        """The matrix ``(3, 3)`` that takes a vector from the eye to (x, y, 1) times its depth, in pixels.

        Pixel centres lie at whole numbers.
        """
        height, width = self.size
        inner = np.array([[self.focal, 0, (width - 1) / 2], [0, self.focal, (height - 1) / 2], [0, 0, 1]])
        return inner @ self.rotation


def keeps_clear(way: np.ndarray, foot: np.ndarray, velocity: np.ndarray, room: tuple[float, float]) -> bool:
    """Whether what moves so stays out of the way of a camera, which `Drive.way` gives.

    Args:
        room: how near it may come to the camera's middle, sideways and lengthwise, in metres.
    """
    time, x, z, yaw = way.T
    x, z = foot[0] + velocity[0] * time - x, foot[2] + velocity[2] * time - z
    sideways, ahead = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    return not ((np.abs(sideways) < room[0]) & (np.abs(ahead) < room[1])).any()


@dataclass(frozen=True)
class Drive:
    """A way along the street x = 0 in direction z, keeping left, with a turn into a crossing street or none.

    Attributes:
        start: z at time 0.
        speed: mean speed in m/s.
        ease: how far the speed swings about its mean, 0 to 1: stop and go.
        crossing: the street number where it turns.
        turn: -1 left, 1 right, 0 straight on.
    """

    start: float
    speed: float
    ease: float
    rate: float
    phase: float
    crossing: int
    turn: int

    def travelled(self, time: float) -> float:
        """Return the metres driven since time 0."""
        swing = np.sin(self.rate * time + self.phase) - np.sin(self.phase)
        return self.speed * (time + self.ease / self.rate * swing)

    def at(self, time: float, size: tuple[int, int]) -> Camera:
        """Return the camera at ``time`` in seconds; ``size`` is (height, width)."""
        x, z, yaw = self._place(self.travelled(time))
        bounce = np.sin(9.1 * time + self.phase) * 0.004 + np.sin(5.3 * time) * 0.003
        yaw += 0.012 * np.sin(0.9 * time + 2 * self.phase)
        pitch, roll = 0.035 + bounce, 0.006 * np.sin(3.7 * time + self.phase)
        right = np.array([np.cos(yaw), 0, -np.sin(yaw)])
        forward = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        down = np.array([-np.sin(yaw) * np.sin(pitch), -np.cos(pitch), -np.cos(yaw) * np.sin(pitch)])
        right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
        eye = np.array([x, HEIGHT + 0.02 * np.sin(7.3 * time), z])
        return Camera(eye, np.stack((right, down, forward)), size)

    def way(self, seconds: float) -> np.ndarray:
        """Return the camera's time, x, z and yaw several times a second, ``(n, 4)``."""
        times = np.arange(0, seconds + 0.2, 0.2)
        return np.array([(time, *self._place(self.travelled(time))) for time in times])

    def _place(self, way: float) -> tuple[float, float, float]:
        """Return the camera's x, z and yaw after ``way`` metres."""
        if self.turn == 0:
            return -LANE, self.start + way, 0.0
        radius = 6.0 if self.turn < 0 else 9.0
        # Into the left lane of the crossing street.
        after = self.crossing * PITCH + self.turn * LANE
        way -= after - radius - self.start
        if way <= 0:
            return -LANE, after - radius + way, 0.0
        angle = min(way / radius, np.pi / 2)
        further = max(0.0, way - radius * np.pi / 2)
        x = self.turn * (radius * (1 - np.cos(angle)) + further) - LANE
        return x, after - radius + radius * np.sin(angle), self.turn * angle
