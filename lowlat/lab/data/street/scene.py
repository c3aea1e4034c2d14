"""One take between two cuts: a town, its light and a drive through it, all drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lowlat.lab.data.street import town
from lowlat.lab.data.street.camera import Drive, keeps_clear
from lowlat.lab.data.street.ground import LANE, PITCH
from lowlat.lab.data.street.light import Light
from lowlat.lab.data.street.quads import Quads

FPS = 15.0
SHORTEST, LONGEST = 70, 170  # frames from cut to cut


@dataclass(frozen=True)
class Scene:
    """A take of ``frames`` frames at ``FPS``: what stands and moves there, its light, and the camera's drive."""

    frames: int
    drive: Drive
    light: Light
    quads: Quads


def length(random: Generator) -> int:
    """Draw the number of frames of a scene, the first thing drawn from its generator."""
    return int(random.integers(SHORTEST, LONGEST + 1))


def make_scene(random: Generator) -> Scene:
    """Draw a scene."""
    frames = length(random)
    drive = _drive(frames / FPS, random)
    light = _light(frames / FPS, random)
    return Scene(frames, drive, light, _town(drive, frames / FPS, random))


def _drive(seconds: float, random: Generator) -> Drive:
    turn = int(random.choice((-1, 0, 0, 1)))
    speed = random.uniform(4.5, 6.0) if turn else random.uniform(5.0, 9.5)
    # The turn comes about the middle of the scene.
    start = PITCH - speed * seconds * random.uniform(0.3, 0.5) if turn else random.uniform(-24, 16)
    ease = random.uniform(0.1, 0.35) if random.random() < 0.75 else 0.95
    return Drive(start, speed, ease, random.uniform(0.5, 0.9), random.uniform(0, 6.28), 1, turn)


def _light(seconds: float, random: Generator) -> Light:
    azimuth, height = random.uniform(0, 2 * np.pi), np.radians(random.uniform(38, 62))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(height), np.sin(azimuth) * np.cos(height)])
    strength = random.uniform(0.35, 1.0)
    cloud = random.uniform(0, seconds) if random.random() < 0.5 else np.inf
    exposure = tuple(random.uniform((0.86, 0.02, 0.4, 0.0), (1.1, 0.14, 1.2, 6.28)))
    warmth = (1.0, random.uniform(0.93, 0.99), random.uniform(0.8, 0.95))
    return Light(sun, strength, cloud, exposure, warmth, tuple(random.uniform(0, 1, 2)))


def _town(drive: Drive, seconds: float, random: Generator) -> Quads:
    """Build streets from one crossing behind the camera to where nothing can be told apart any more."""
    quads = Quads()
    main, turned = town.street_z(0), town.street_x(drive.crossing)
    blocks = range(-1, 4)
    for block in blocks:
        for side in (-1, 1):
            town.buildings(quads, main, block, side, random)
            town.furniture(quads, main, block, side, random)
            town.parked(quads, main, block, side, random)
    # The far end of the street, where it meets another one.
    for block in (-1, 0):
        town.buildings(quads, town.street_x(blocks.stop), block, -1, random, park=0.3)
    for crossing in blocks:
        street = town.street_x(crossing)
        near = street is turned or crossing == drive.crossing
        for block in (-2, -1, 0, 1) if near and drive.turn else (-1, 0):
            for side in (-1, 1):
                town.buildings(quads, street, block, side, random, park=0.1)
                if near:
                    town.furniture(quads, street, block, side, random)
                    town.parked(quads, street, block, side, random)
        ends = (-2, 2) if near and drive.turn else (-1, 1)
        for end, side in zip(ends, (-1, 1), strict=True):
            for block in (crossing - 1, crossing):
                town.buildings(quads, town.street_z(end), block, side, random, park=0.3)
    end = drive.start + drive.travelled(seconds) + 70
    way = drive.way(seconds)
    town.traffic(quads, main, (drive.start - 5, min(end, 4 * PITCH)), way, random)
    town.traffic(quads, turned, (-1.5 * PITCH, 1.5 * PITCH), way, random, busy=0.7)
    _ahead(quads, drive, way, random)
    _crossing(quads, drive, way, random)
    return quads.freeze()


def _ahead(quads: Quads, drive: Drive, way: np.ndarray, random: Generator) -> None:
    """Place a car in the camera's own lane, and a bicycle at its edge."""
    street = town.street_z(0)
    if drive.ease < 0.5 and random.random() < 0.75:
        gap = 9 + 2 * drive.speed * drive.ease / drive.rate + random.uniform(0, 12)
        foot = street.at(drive.start + gap, -LANE)
        town.vehicle(
            quads, town.any_vehicle(random), foot, street.along, town.any_paint(random), drive.speed * street.along
        )
    foot = street.at(drive.start + random.uniform(9, 30), -3.3)
    velocity = random.uniform(3.5, 4.8) * street.along
    if keeps_clear(way, foot, velocity, town.PERSON):
        town.cyclist(quads, foot, velocity, random)


def _crossing(quads: Quads, drive: Drive, way: np.ndarray, random: Generator) -> None:
    """Place people and a bicycle who cross the road before the camera comes."""
    street = town.street_z(0)
    for _ in range(int(random.integers(1, 5))):
        heading = int(random.choice((-1, 1)))
        place = drive.start + random.uniform(35, 70)
        # In the camera's lane well before the camera.
        time = (place - drive.start) / drive.speed * random.uniform(0.2, 0.55)
        velocity = heading * random.uniform(1.1, 1.5) * street.right
        foot = street.at(place, -LANE) - velocity * time
        if keeps_clear(way, foot, velocity, town.PERSON):
            town.walker(quads, foot, velocity, random)
    if random.random() < 0.6:
        heading = int(random.choice((-1, 1)))
        foot = street.at(drive.crossing * PITCH + random.uniform(-2, 2), -heading * random.uniform(8, 22))
        velocity = heading * 4.0 * street.right
        if keeps_clear(way, foot, velocity, town.PERSON):
            town.cyclist(quads, foot, velocity, random, crossing=heading)
