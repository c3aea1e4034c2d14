"""What a street is made of: textured parallelograms, standing still, moving, or turned to the camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lowlat.classes import CAMVID
from lowlat.lab.data.street.atlas import atlas

GROUND, SKY = 0, 1
"""Numbers of the surfaces without end: the ground, its places (x, z) in metres, and the sky, (x / y, z / y)."""

UP = np.array([0.0, 1.0, 0.0])
STILL = (0.0, 0.0, 0.0)
Vector = np.ndarray | tuple[float, float, float]


@dataclass
class _Rows:
    """A table that is being filled row by row, kept as one list a column."""

    texture: list = field(default_factory=list)
    kind: list = field(default_factory=list)
    tint: list = field(default_factory=list)
    velocity: list = field(default_factory=list)
    sided: list = field(default_factory=list)
    shape: list = field(default_factory=list)

    def add(self, texture: str, kind: str, tint: Vector, velocity: Vector, sided: int, shape: Vector) -> None:
        self.texture.append(atlas().number[texture])
        self.kind.append(CAMVID.names.index(kind))
        self.tint.append(tint)
        self.velocity.append(velocity)
        self.sided.append(sided)
        self.shape.append(shape)


class Quads:
    """Collects quads, then gives their poses at any time. ``n`` counts the ground and the sky, which come first.

    Coordinates are metres: x, up, z. A quad's place runs over it from (0, 0), its origin, along ``across`` and ``down``
    to (1, 1).
    """

    def __init__(self):
        self._rigid, self._upright = _Rows(), _Rows()
        self._shadows: list[tuple[Vector, Vector, Vector, Vector]] = []
        self._rigid.add("ground", "road", (1, 1, 1), STILL, 0, np.array([[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]))
        self._rigid.add("clouds", "sky", (1, 1, 1), STILL, 0, np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]))

    def rigid(
        self,
        texture: str,
        kind: str,
        origin: Vector,
        across: Vector,
        down: Vector,
        *,
        tint: Vector = (1, 1, 1),
        velocity: Vector = STILL,
        sided: int = 1,
    ) -> None:
        """Add a quad, seen from where ``across`` runs right (``sided`` 1), from behind (-1) or from both sides (0)."""
        self._rigid.add(texture, kind, tint, velocity, sided, np.array([across, down, origin], float))

    def upright(
        self,
        texture: str,
        kind: str,
        pivot: Vector,
        box: tuple[float, float, float, float],
        *,
        tint: Vector = (1, 1, 1),
        velocity: Vector = STILL,
        swing: Vector = STILL,
    ) -> None:
        """Add a quad that turns to the camera about the vertical through ``pivot``.

        Args:
            box: left, top, width and height in metres, seen from the camera, from the pivot; a negative width mirrors.
            swing: about the pivot: radians, radians a second, phase.
        """
        self._upright.add(texture, kind, tint, velocity, 0, np.array([pivot, [*box[:2], 0], [*box[2:], 0], swing]))

    def shadow(self, middle: Vector, along: Vector, across: Vector, velocity: Vector = STILL) -> None:
        """Add a dark patch on the ground, by the middle and the half axes of an ellipse."""
        self._shadows.append((middle, along, across, velocity))

    def freeze(self) -> Quads:
        """Turn the lists into arrays; nothing is added afterwards."""
        columns = {}
        for name in ("texture", "kind", "tint", "velocity", "sided"):
            columns[name] = np.array(getattr(self._rigid, name) + getattr(self._upright, name))
        self.texture, self.kind = columns["texture"].astype(np.intp), columns["kind"].astype(np.uint8)
        self.tint, self.velocity = columns["tint"].astype(np.float32), columns["velocity"].astype(float)
        self.sided = columns["sided"]
        self._shapes = np.stack(self._rigid.shape)
        self._pivots = np.stack(self._upright.shape)
        self._patches = np.array(self._shadows, float).reshape(-1, 4, 3)
        self.rigid_count = len(self._shapes)
        return self

    def __len__(self) -> int:
        return len(self.texture)

    def poses(self, time: float, eye: np.ndarray) -> np.ndarray:
        """Return the columns across, down and origin of every quad, ``(n, 3, 3)``, in metres from the camera's
        ``eye``."""
        count = len(self._shapes)
        moved = self.velocity * time
        poses = np.empty((len(self), 3, 3))
        poses[:count] = self._shapes
        poses[:count, 2] += moved[:count] - eye
        # The sky is a plane one metre above the camera, wherever that is: rays know no distance.
        poses[SKY, 2] = UP
        pivot, corner, size, swing = (self._pivots[:, row] for row in range(4))
        pivot = pivot + moved[count:] - eye
        distance = np.hypot(pivot[:, 0], pivot[:, 2])
        right = np.stack((pivot[:, 2], np.zeros(len(pivot)), -pivot[:, 0]), 1) / np.maximum(distance, 1e-6)[:, None]
        angle = swing[:, 0] * np.sin(swing[:, 1] * time + swing[:, 2])
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        right, up = cos * right + sin * UP, cos * UP - sin * right
        poses[count:, 0] = size[:, :1] * right
        poses[count:, 1] = -size[:, 1:2] * up
        poses[count:, 2] = pivot + corner[:, :1] * right + corner[:, 1:2] * up
        return poses.transpose(0, 2, 1)

    def shadows(self, time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return middles and half axes of the dark patches, ``(m, 3)`` each."""
        middle, along, across, velocity = self._patches.transpose(1, 0, 2)
        return middle + velocity * time, along, across
