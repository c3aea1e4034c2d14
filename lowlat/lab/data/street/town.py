"""Placing what stands, drives and walks along the streets of one scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lowlat.lab.data.street.camera import keeps_clear
from lowlat.lab.data.street.ground import KERB, LANE, PARKED, PITCH, WALL
from lowlat.lab.data.street.quads import STILL, UP, Quads, Vector
from lowlat.lab.data.street.textures import COATS, WALLS
from lowlat.lab.data.street.vehicles import VEHICLES, Vehicle

PAINTS = (
    (0.95, 0.95, 0.95), (0.72, 0.74, 0.77), (0.34, 0.35, 0.38), (0.8, 0.16, 0.15), (0.25, 0.38, 0.7),
    (0.3, 0.5, 0.4), (0.78, 0.7, 0.5), (0.5, 0.52, 0.55),
)  # fmt: skip
PERSON = (1.2, 4.0)  # metres that a person keeps from the camera, sideways and lengthwise
CORNER = WALL + 4.5  # metres from a crossing's middle that stay free of furniture


@dataclass(frozen=True)
class Axis:
    """A street: places on it are (along, to the right of its middle, up), in metres."""

    middle: np.ndarray
    along: np.ndarray
    right: np.ndarray

    def at(self, along: float, right: float, up: float = 0.0) -> np.ndarray:
        return self.middle + along * self.along + right * self.right + up * UP


def street_z(number: int) -> Axis:
    """Return the street x = ``number * PITCH``, along z."""
    return Axis(np.array([number * PITCH, 0, 0]), np.array([0.0, 0, 1]), np.array([1.0, 0, 0]))


def street_x(number: int) -> Axis:
    """Return the street z = ``number * PITCH``, along x."""
    return Axis(np.array([0, 0, number * PITCH]), np.array([1.0, 0, 0]), np.array([0.0, 0, -1]))


def buildings(quads: Quads, street: Axis, block: int, side: int, random: Generator, park: float = 0.3) -> None:
    """Place one side of one block: a row of buildings, or a park with its fence.

    Args:
        block: from crossing ``block`` to the next one.
        side: 1 right, -1 left.
        park: the probability that it is a park.
    """
    start, end = block * PITCH + WALL, (block + 1) * PITCH - WALL
    if random.random() < park:
        _park(quads, street, start, end, side, random)
        return
    count = int(random.integers(3, 6))
    widths = random.uniform(0.8, 1.2, count)
    place = start
    for width in widths / widths.sum() * (end - start):
        number = int(random.integers(len(WALLS)))
        height = ((3 + number % 2) * 3.2 + 0.6) * random.uniform(0.92, 1.12)
        light = random.uniform(0.82, 1.1) * random.uniform(0.95, 1.05, 3)
        # From the street, the along direction runs to the right on the left side.
        first, last = (place, place + width) if side < 0 else (place + width, place)
        _wall(quads, f"facade{number}", street.at(first, side * WALL), street.at(last, side * WALL), height, light)
        for near, far in ((place, 0), (place + width, 1)):
            front, back = street.at(near, side * WALL), street.at(near, side * (WALL + 9))
            ends = (back, front) if (side < 0) == (far == 0) else (front, back)
            _wall(quads, "wall", *ends, height, light)
        _wall(quads, "wall", street.at(last, side * (WALL + 9)), street.at(first, side * (WALL + 9)), height, light)
        place += width


def _wall(quads: Quads, texture: str, left: Vector, right: Vector, height: float, tint: Vector) -> None:
    quads.rigid(texture, "building", left + height * UP, right - left, -height * UP, tint=tint)


def _park(quads: Quads, street: Axis, start: float, end: float, side: int, random: Generator) -> None:
    texture, height = f"fence{int(random.integers(3))}", random.uniform(1.2, 1.7)
    panels = int((end - start) // 4)
    step = (end - start) / panels
    for panel in range(panels):
        places = start + panel * step, start + (panel + 1) * step
        first, last = places if side < 0 else places[::-1]
        left, right = street.at(first, side * WALL), street.at(last, side * WALL)
        quads.rigid(texture, "fence", left + height * UP, right - left, -height * UP, sided=0)
    # The back of the park is a row of houses; a flat lawn would show the sky down to the ground.
    back = WALL + 18
    for place in np.linspace(start, end, 4, endpoint=False):
        places = place, place + (end - start) / 4
        first, last = places if side < 0 else places[::-1]
        facade = f"facade{int(random.integers(len(WALLS)))}"
        _wall(quads, facade, street.at(first, side * back), street.at(last, side * back), 11.0, np.full(3, 0.9))
    for place in np.arange(start + 1, end - 1, 3.4):
        tree(quads, street.at(place + random.uniform(-1, 1), side * (WALL + random.uniform(2, 12))), random)


def tree(quads: Quads, foot: np.ndarray, random: Generator) -> None:
    scale = random.uniform(0.75, 1.25)
    tint = random.uniform(0.8, 1.15) * random.uniform((0.9, 0.95, 0.85), (1.15, 1.05, 1.1))
    width = 5 * scale * random.choice((-1, 1)) * random.uniform(0.9, 1.15)
    quads.shadow(foot, np.array([1.7 * scale, 0, 0]), np.array([0, 0, 1.7 * scale]))
    quads.upright(f"tree{int(random.integers(4))}", "tree", foot, (-width / 2, 7 * scale, width, 7 * scale), tint=tint)


def furniture(quads: Quads, street: Axis, block: int, side: int, random: Generator) -> None:
    """Place lamps, signs and trees on the pavement of one side of one block."""
    start, end = block * PITCH + CORNER, (block + 1) * PITCH - CORNER
    kerb = side * (KERB + 0.5)
    for place in np.arange(start + random.uniform(0, 6), end, 17.0):
        quads.upright("pole", "pole", street.at(place, kerb), (-0.09, 5.8, 0.18, 5.8))
        arm = street.at(place, kerb, 5.85)
        quads.rigid("arm", "pole", arm, -side * 1.8 * street.right, -0.4 * UP, sided=0)
    for place in random.uniform(start, end, random.integers(1, 3)):
        _sign(quads, street.at(place, side * (KERB + 0.8)), random)
    if random.random() < 0.5:
        for place in np.arange(start + random.uniform(2, 6), end, random.uniform(9, 15)):
            tree(quads, street.at(place, side * (KERB + 1.1)), random)
    crossing = street.at(end + 3.5, kerb)
    quads.upright("pole", "pole", crossing, (-0.06, 3.0, 0.12, 3.0))
    quads.upright("sign3", "sign", crossing - 0.08 * street.along, (-0.2, 3.5, 0.4, 1.1))


def _sign(quads: Quads, foot: np.ndarray, random: Generator) -> None:
    number = int(random.integers(3))
    width, height = ((0.75, 0.75), (0.9, 0.8), (1.2, 0.8))[number]
    top = random.uniform(2.5, 3.0)
    quads.upright("pole", "pole", foot, (-0.04, top, 0.08, top))
    quads.upright(f"sign{number}", "sign", foot, (-width / 2, top + 0.1, width, height))


def vehicle(
    quads: Quads, kind: Vehicle, foot: np.ndarray, ahead: Vector, paint: Vector, velocity: Vector = STILL
) -> None:
    """Place a car or van that points ``ahead``, a unit vector, its middle over ``foot``."""
    right = np.array([ahead[2], 0, -ahead[0]])
    half = right * kind.width / 2

    def corner(point: tuple[float, float]) -> np.ndarray:
        return foot + ahead * point[0] + UP * point[1]

    quads.shadow(foot, ahead * (kind.length / 2 + 0.25), right * (kind.width / 2 + 0.2), velocity)
    same = {"tint": paint, "velocity": velocity}
    corners = [corner(point) for point in kind.profile]
    for surface, first, last in zip(kind.surfaces, corners[:-1], corners[1:], strict=True):
        texture = f"{kind.name}_{surface}"
        if first[1] <= last[1] + 0.2:
            quads.rigid(texture, "car", last - half, 2 * half, first - last, **same)
        else:
            quads.rigid(texture, "car", first + half, -2 * half, last - first, **same)
    tail = corner((min(along for along, _ in kind.profile), kind.height))
    for side in (1, -1):
        origin = tail + side * half
        quads.rigid(f"{kind.name}_side", "car", origin, ahead * kind.length, -UP * kind.height, sided=side, **same)


def parked(quads: Quads, street: Axis, block: int, side: int, random: Generator) -> None:
    """Place a row of parked cars with gaps."""
    place, end = block * PITCH + CORNER + 4, (block + 1) * PITCH - CORNER - 4
    ahead = -side * street.along
    while place < end:
        if random.random() < 0.48:
            foot = street.at(place, side * PARKED)
            vehicle(quads, any_vehicle(random), foot, ahead, any_paint(random))
        place += random.uniform(5.2, 6.5)


def any_vehicle(random: Generator) -> Vehicle:
    return VEHICLES[int(random.choice(3, p=(0.48, 0.36, 0.16)))]


def any_paint(random: Generator) -> Vector:
    return PAINTS[int(random.integers(len(PAINTS)))]


def walker(quads: Quads, foot: np.ndarray, velocity: Vector, random: Generator) -> None:
    """Place a person: body and two legs that swing from the hip."""
    size = random.uniform(0.9, 1.06)
    quads.shadow(foot, np.array([0.35, 0, 0]), np.array([0, 0, 0.35]), velocity)
    hip, phase = foot + 0.82 * size * UP, random.uniform(0, 6.28)
    leg = f"leg{int(random.integers(2))}"
    for side in (-1, 1):
        box = (side * 0.07 - 0.1 * size, 0.04, 0.2 * size, 0.86 * size)
        quads.upright(leg, "pedestrian", hip, box, velocity=velocity, swing=(0.42 * side, 6.0, phase))
    mirror = float(random.choice((-1, 1)))
    box = (-0.32 * size * mirror, 0.93 * size, 0.64 * size * mirror, 1.0 * size)
    body = f"person{int(random.integers(len(COATS)))}"
    quads.upright(body, "pedestrian", hip, box, velocity=velocity, swing=(0.02, 12.0, phase))


def cyclist(quads: Quads, foot: np.ndarray, velocity: Vector, random: Generator, *, crossing: int = 0) -> None:
    """Place a person on a bicycle; ``crossing`` 1 or -1: seen from the side, going right or left."""
    number = int(random.integers(3))
    quads.shadow(foot, np.array([0.6, 0, 0]), np.array([0, 0, 0.6]), velocity)
    if crossing:
        box = (-0.9 * crossing, 1.75, 1.8 * crossing, 1.75)
        quads.upright(f"rider_side{number}", "bicyclist", foot, box, velocity=velocity)
        return
    phase = random.uniform(0, 6.28)
    for side in (-1, 1):
        box = (side * 0.12 - 0.08, 0.0, 0.16, 0.72)
        hip = foot + 0.95 * UP
        quads.upright("leg0", "bicyclist", hip, box, velocity=velocity, swing=(0.12 * side, 7.0, phase))
    box = (-0.35, 1.75, 0.7, 1.75)
    quads.upright(f"rider{number}", "bicyclist", foot, box, velocity=velocity, swing=(0.03, 3.5, phase))


def traffic(
    quads: Quads, street: Axis, reach: tuple[float, float], way: np.ndarray, random: Generator, *, busy: float = 1.0
) -> None:
    """Place the cars, people and bicycles that move along a street within ``reach``, out of the camera's way."""
    start, end = reach
    place = start + random.uniform(10, 40)
    speed = random.uniform(6, 10)
    # Those who come the other way have moved on by the time they are met: they start further off.
    while place < end + 80:
        foot, velocity = street.at(place, LANE), -speed * street.along
        if keeps_clear(way, foot, velocity, (2.6, 7.0)):
            vehicle(quads, any_vehicle(random), foot, -street.along, any_paint(random), velocity)
        place += random.uniform(16, 70) / busy
    for _ in range(int((end - start) / 7 * busy)):
        side, heading = int(random.choice((-1, 1))), int(random.choice((-1, 1)))
        velocity = heading * random.uniform(0.9, 1.5) * (random.random() < 0.85) * street.along
        foot = street.at(random.uniform(start, end), side * random.uniform(6.6, WALL - 0.6))
        if keeps_clear(way, foot, velocity, PERSON):
            walker(quads, foot, velocity, random)
    for _ in range(max(2, int((end - start) / 35))):
        side = int(random.choice((-1, 1)))
        velocity = -side * random.uniform(3, 5) * street.along
        foot = street.at(random.uniform(start, end), side * 3.25)
        if keeps_clear(way, foot, velocity, PERSON):
            cyclist(quads, foot, velocity, random)
