"""Cars and vans: a profile seen from the side, drawn out across the width; one texture for each of its surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lowlat.lab.data.street.canvas import Canvas

PAINT, TRIM, GLASS, TYRE = (232, 232, 232), (40, 40, 42), (52, 62, 72), (30, 30, 32)
PER_METRE = 56


@dataclass(frozen=True)
class Vehicle:
    """The shape of a vehicle, measures in metres.

    Attributes:
        profile: corners (along, up) from the tail's foot over the roof to the nose's foot.
        surfaces: the texture of each edge of the profile, by its ending.
        pillars: where the side windows end and are parted, along.
    """

    name: str
    width: float
    profile: tuple[tuple[float, float], ...]
    surfaces: tuple[str, ...]
    pillars: tuple[float, ...]

    @property
    def length(self) -> float:
        return self.profile[-1][0] - self.profile[0][0]

    @property
    def height(self) -> float:
        return max(up for _, up in self.profile)


VEHICLES = (
    Vehicle(
        "hatchback",
        1.74,
        ((-1.95, 0.0), (-1.98, 0.92), (-1.62, 1.44), (0.25, 1.46), (1.05, 0.98), (1.95, 0.8), (2.0, 0.0)),
        ("tail", "glass", "roof", "glass", "bonnet", "nose"),
        (-1.7, -0.62, 0.8),
    ),
    Vehicle(
        "saloon",
        1.8,
        ((-2.25, 0.0), (-2.3, 0.92), (-1.75, 1.0), (-1.1, 1.42), (0.35, 1.42), (1.15, 0.96), (2.2, 0.78), (2.25, 0.0)),
        ("tail", "bonnet", "glass", "roof", "glass", "bonnet", "nose"),
        (-1.5, -0.4, 0.95),
    ),
    Vehicle(
        "van",
        1.95,
        ((-2.4, 0.0), (-2.4, 2.05), (1.35, 2.1), (1.95, 1.2), (2.4, 1.0), (2.45, 0.0)),
        ("doors", "roof", "glass", "bonnet", "nose"),
        (0.6, 1.75),
    ),
)


def vehicle_textures(random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Draw ``<name>_side``, nose to the right, and ``<name>_<surface>`` of each of `VEHICLES`, in white paint, for a
    tint."""
    for vehicle in VEHICLES:
        yield f"{vehicle.name}_side", _side(vehicle).pixels(random, 0.04)
        for surface in sorted(set(vehicle.surfaces)):
            yield f"{vehicle.name}_{surface}", _SURFACES[surface](vehicle.width).pixels(random, 0.03)


def _side(vehicle: Vehicle) -> Canvas:
    canvas = Canvas(vehicle.length, vehicle.height, PER_METRE)
    start = min(along for along, _ in vehicle.profile)
    outline = [(along - start, max(up, 0.22)) for along, up in vehicle.profile]
    canvas.polygon(outline, PAINT)
    canvas.box(0.05, 0.22, vehicle.length - 0.1, 0.12, TRIM)
    canvas.box(0, 0.62, vehicle.length, 0.03, (180, 180, 180))
    # Side windows: between waist and roof, inside the outline drawn in.
    waist = 0.98 if vehicle.height < 1.8 else 1.2
    top = vehicle.height - 0.12
    inside = [(along - start, up) for along, up in vehicle.profile if up >= waist - 0.1]
    left, right = inside[0][0], inside[-1][0]
    roof = [(along, up) for along, up in inside if up > vehicle.height - 0.15]
    if vehicle.name == "van":
        left = vehicle.pillars[0] - start
        glass = [(left, waist), (left, top), (roof[-1][0] - 0.05, top), (right - 0.15, waist)]
    else:
        glass = [(left + 0.2, waist), (roof[0][0] + 0.1, top), (roof[-1][0] - 0.05, top), (right - 0.12, waist)]
    canvas.polygon(glass, GLASS)
    for pillar in vehicle.pillars[1:-1]:
        canvas.box(pillar - start - 0.05, waist, 0.1, top - waist, PAINT)
        canvas.box(pillar - start, 0.3, 0.025, waist - 0.3, (150, 150, 150))
    for wheel in (0.72, vehicle.length - 0.78):
        canvas.ellipse(wheel, 0.34, 0.4, 0.4, TRIM)
        canvas.ellipse(wheel, 0.31, 0.31, 0.31, TYRE)
        canvas.ellipse(wheel, 0.31, 0.19, 0.19, (150, 152, 156))
        canvas.ellipse(wheel, 0.31, 0.06, 0.06, TYRE)
    canvas.box(0, 0.68, 0.16, 0.16, (196, 30, 30))
    canvas.box(vehicle.length - 0.22, 0.62, 0.2, 0.13, (236, 236, 220))
    return canvas


def _end(width: float, height: float) -> Canvas:
    """Draw a nose or tail: paint above, bumper, tyres below."""
    canvas = Canvas(width, height, PER_METRE)
    canvas.box(0, 0.24, width, height - 0.24, PAINT)
    canvas.box(0, 0.24, width, 0.2, TRIM)
    canvas.box(0.08, 0, 0.22, 0.3, TYRE)
    canvas.box(width - 0.3, 0, 0.22, 0.3, TYRE)
    return canvas


def _tail(width: float) -> Canvas:
    canvas = _end(width, 0.92)
    for left in (0.04, width - 0.3):
        canvas.box(left, 0.55, 0.26, 0.22, (200, 26, 28))
        canvas.box(left, 0.55, 0.26, 0.06, (226, 150, 40))
    canvas.box(width / 2 - 0.26, 0.5, 0.52, 0.13, (226, 200, 60))
    return canvas


def _nose(width: float) -> Canvas:
    canvas = _end(width, 0.85)
    for left in (0.05, width - 0.4):
        canvas.ellipse(left + 0.17, 0.64, 0.17, 0.1, (244, 244, 236))
    canvas.box(0.45, 0.55, width - 0.9, 0.16, (34, 34, 36))
    canvas.box(width / 2 - 0.26, 0.36, 0.52, 0.12, (240, 240, 240))
    return canvas


def _doors(width: float) -> Canvas:
    canvas = _end(width, 2.05)
    for left in (0.2, width / 2 + 0.1):
        canvas.box(left, 1.3, width / 2 - 0.3, 0.5, GLASS)
    canvas.box(width / 2 - 0.02, 0.45, 0.04, 1.5, (140, 140, 140))
    for left in (0.03, width - 0.17):
        canvas.box(left, 0.6, 0.14, 0.4, (200, 26, 28))
    canvas.box(width / 2 + 0.15, 0.5, 0.52, 0.13, (226, 200, 60))
    return canvas


def _glass(width: float) -> Canvas:
    canvas = Canvas(width, 0.7, PER_METRE)
    canvas.box(0, 0, width, 0.7, PAINT)
    canvas.polygon([(0.06, 0.04), (width - 0.06, 0.04), (width - 0.14, 0.66), (0.14, 0.66)], GLASS)
    canvas.polygon([(0.3, 0.04), (0.7, 0.04), (1.0, 0.66), (0.6, 0.66)], (84, 98, 110))
    return canvas


def _sheet(width: float) -> Canvas:
    canvas = Canvas(width, 1.0, PER_METRE)
    canvas.box(0, 0, width, 1.0, PAINT)
    canvas.box(0.05, 0, 0.02, 1.0, (200, 200, 200))
    canvas.box(width - 0.07, 0, 0.02, 1.0, (200, 200, 200))
    return canvas


_SURFACES = {"tail": _tail, "nose": _nose, "doors": _doors, "glass": _glass, "roof": _sheet, "bonnet": _sheet}
