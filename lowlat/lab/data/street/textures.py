"""What the street's surfaces look like: buildings, trees, people, furniture of the street. Drawn once a process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lowlat.lab.data.street.canvas import Canvas, Colour, mixed, noise, roughen
from lowlat.lab.data.street.ground import ground_textures
from lowlat.lab.data.street.vehicles import vehicle_textures

WALLS = ((168, 112, 88), (196, 170, 130), (205, 198, 185), (150, 96, 76), (182, 158, 140), (170, 165, 158))
COATS = ((52, 58, 84), (128, 42, 46), (60, 84, 64), (40, 40, 44), (150, 128, 92), (92, 110, 140))
SKIN, TYRE, GLASS = (206, 160, 132), (28, 28, 30), (48, 58, 68)

Named = Iterator[tuple[str, np.ndarray]]


def draw_textures() -> dict[str, np.ndarray]:
    """Draw every texture, uint8 ``(h, w, 4)``, RGB and opacity, by its name."""
    random = np.random.default_rng(2018)
    parts = (_buildings, _green, _fences, _people, _furniture, _skies, ground_textures, vehicle_textures)
    return {name: pixels for part in parts for name, pixels in part(random)}


def _buildings(random: np.random.Generator) -> Named:
    for number, wall in enumerate(WALLS):
        yield f"facade{number}", _facade(wall, 3 + number % 2, number % 3 == 1, random)
    side = Canvas(8, 10, 16)
    side.box(0, 0, 8, 10, (176, 160, 146))
    yield "wall", roughen(_bricks(side.pixels(), 16), random, 0.08)


def _facade(wall: Colour, floors: int, shop: bool, random: np.random.Generator) -> np.ndarray:
    """Draw a facade, 12 m wide: floors of 3.2 m, four windows each, a door or a shop at the bottom, a cornice at the
    top."""
    height = floors * 3.2 + 0.6
    canvas = Canvas(12, height, 24)
    frame = (232, 228, 220) if random.random() < 0.7 else (70, 62, 56)
    canvas.box(0, 0, 12, height, wall)
    canvas.box(0, 0, 12, 0.5, mixed(wall, (40, 40, 40), 0.4))
    canvas.box(0, height - 0.5, 12, 0.5, mixed(wall, (240, 235, 225), 0.5))
    canvas.box(0, height - 0.6, 12, 0.1, mixed(wall, (20, 20, 20), 0.5))
    pixels = roughen(_bricks(canvas.pixels(), 24), random, 0.09)
    canvas = Canvas(12, height, 24)
    for floor in range(floors):
        bottom = floor * 3.2
        if floor:
            canvas.box(0, bottom - 0.05, 12, 0.12, mixed(wall, (230, 225, 215), 0.4))
        if floor == 0 and shop:
            _shop(canvas, random)
            continue
        door = int(random.integers(4)) if floor == 0 else -1
        for bay in range(4):
            left = bay * 3 + 0.85
            if bay == door:
                canvas.box(left - 0.1, 0.1, 1.3, 2.6, frame)
                canvas.box(left, 0.1, 1.1, 2.3, (int(random.integers(30, 120)), 40, 48))
            else:
                _window(canvas, left, bottom + 0.95, frame, random)
    over = canvas.pixels(random, 0.05)
    share = over[..., 3:] / 255
    pixels[..., :3] = pixels[..., :3] * (1 - share) + over[..., :3] * share
    return pixels


def _window(canvas: Canvas, left: float, bottom: float, frame: Colour, random: np.random.Generator) -> None:
    canvas.box(left - 0.14, bottom - 0.18, 1.58, 0.16, (214, 208, 198))
    canvas.box(left - 0.1, bottom - 0.04, 1.5, 1.9, frame)
    glass = mixed(GLASS, (150, 172, 190), random.random() * 0.55)
    for row in range(2):
        for column in range(2):
            pane = mixed(glass, (205, 215, 222), 0.25 * row * random.random())
            canvas.box(left + column * 0.67, bottom + row * 0.92, 0.62, 0.86, pane)
    if random.random() < 0.35:
        canvas.box(left, bottom + 0.2, 0.35, 1.58, (190, 180, 165))


def _shop(canvas: Canvas, random: np.random.Generator) -> None:
    sign = tuple(int(value) for value in random.integers(30, 170, 3))
    canvas.box(0.3, 0.1, 11.4, 2.9, (54, 48, 46))
    canvas.box(0.3, 2.5, 11.4, 0.6, sign)
    for letter in range(14):
        canvas.box(2.6 + letter * 0.5, 2.65, 0.1 + 0.2 * random.random(), 0.3, (240, 235, 220))
    for pane in range(4):
        canvas.box(0.5 + pane * 2.85, 0.55, 2.5, 1.8, mixed(GLASS, (170, 160, 130), random.random() * 0.7))
        for _ in range(6):
            colour = tuple(int(value) for value in random.integers(60, 220, 3))
            canvas.box(0.6 + pane * 2.85 + random.random() * 2, 0.6, 0.25, 0.3 + random.random(), colour)
    canvas.box(5.5, 0.1, 1.0, 2.3, mixed(sign, (0, 0, 0), 0.4))


def _bricks(pixels: np.ndarray, per_metre: int) -> np.ndarray:
    """Draw courses of bricks, 25 x 12.5 cm, as faint lines."""
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    course = rows * 8 // per_metre
    joint = (rows * 8 % per_metre < 8) | ((columns * 4 + course % 2 * per_metre // 2) % per_metre < 4)
    result = pixels.copy()
    result[..., :3] = np.where(joint[..., None], pixels[..., :3] * 0.93, pixels[..., :3])
    return result


def _green(random: np.random.Generator) -> Named:
    for number in range(4):
        canvas = Canvas(5, 7, 28)
        canvas.polygon([(2.3, 0), (2.7, 0), (2.58, 3.5), (2.42, 3.5)], (84, 68, 54))
        leaf = ((74, 104, 44), (88, 112, 50), (60, 92, 48), (104, 112, 52))[number]
        for _ in range(170):
            angle, radius = random.random() * 6.28, random.random() ** 0.5
            x, y = 2.5 + 1.95 * radius * np.cos(angle), 4.5 + 2.0 * radius * np.sin(angle)
            # Light from above; dark among the leaves.
            light = 0.62 + 0.4 * (y - 2.5) / 4 + 0.25 * (random.random() - 0.5)
            canvas.ellipse(x, y, 0.42, 0.36, tuple(int(value * light) for value in leaf))
        for _ in range(900):
            angle, radius = random.random() * 6.28, random.random() ** 0.5
            x, y = 2.5 + 2.15 * radius * np.cos(angle), 4.5 + 2.2 * radius * np.sin(angle)
            light = 0.5 + 0.6 * (y - 2.3) / 4.4 + 0.5 * (random.random() - 0.5)
            canvas.ellipse(x, y, 0.09, 0.07, tuple(int(min(255, max(0, value * light))) for value in leaf))
        yield f"tree{number}", canvas.pixels(random, 0.12, 0.6)


def _fences(random: np.random.Generator) -> Named:
    wood = Canvas(4, 1.6, 32)
    for plank in range(20):
        shade = 0.8 + 0.3 * random.random()
        wood.box(plank * 0.2, 0, 0.19, 1.5 + 0.05 * random.random(), tuple(int(c * shade) for c in (142, 112, 84)))
    wood.box(0, 1.2, 4, 0.08, (108, 84, 62))
    yield "fence0", wood.pixels(random, 0.1)
    rail = Canvas(4, 1.5, 32)
    rail.box(0, 0, 4, 1.42, (58, 76, 44))
    rail.box(0, 0, 4, 0.45, (150, 138, 128))
    for bar in range(21):
        rail.box(bar * 0.2 - 0.02, 0.4, 0.05, 1.1, (36, 38, 42))
    rail.box(0, 1.3, 4, 0.07, (36, 38, 42))
    yield "fence1", rail.pixels(random, 0.12)
    brick = Canvas(4, 1.3, 32)
    brick.box(0, 0, 4, 1.3, (150, 98, 78))
    brick.box(0, 1.2, 4, 0.1, (196, 188, 176))
    yield "fence2", roughen(_bricks(brick.pixels(), 32), random, 0.1)


def _people(random: np.random.Generator) -> Named:
    for number, coat in enumerate(COATS):
        body = Canvas(0.64, 1.0, 100)
        sleeve = mixed(coat, (0, 0, 0), 0.25)
        for side in (-1, 1):
            body.line([(0.32 + side * 0.17, 0.68), (0.32 + side * 0.23, 0.4), (0.32 + side * 0.2, 0.18)], 0.1, sleeve)
            body.ellipse(0.32 + side * 0.2, 0.14, 0.045, 0.05, SKIN)
        body.polygon([(0.14, 0.0), (0.5, 0.0), (0.52, 0.6), (0.44, 0.73), (0.2, 0.73), (0.12, 0.6)], coat)
        body.box(0.31, 0.0, 0.02, 0.7, sleeve)
        body.box(0.28, 0.7, 0.08, 0.08, SKIN)
        body.ellipse(0.32, 0.86, 0.085, 0.115, SKIN)
        hair = ((40, 30, 24), (98, 70, 40), (120, 112, 104))[number % 3]
        body.ellipse(0.32, 0.91, 0.09, 0.08, hair)
        if number % 2:
            body.box(0.18, 0.3, 0.28, 0.38, mixed(coat, (200, 60, 40), 0.5))
        yield f"person{number}", body.pixels(random, 0.07)
    for number, cloth in enumerate(((44, 50, 66), (70, 62, 54))):
        leg = Canvas(0.2, 0.85, 100)
        leg.polygon([(0.02, 0.85), (0.19, 0.85), (0.15, 0.06), (0.06, 0.06)], cloth)
        leg.box(0.04, 0.0, 0.14, 0.08, (30, 26, 24))
        yield f"leg{number}", leg.pixels(random, 0.07)
    for number, coat in enumerate(COATS[:3]):
        yield f"rider{number}", _rider(coat).pixels(random, 0.06)
        yield f"rider_side{number}", _rider_side(coat).pixels(random, 0.06)


def _rider(coat: Colour) -> Canvas:
    """Draw a cyclist seen from behind or from the front: wheel, rider, helmet."""
    canvas = Canvas(0.7, 1.75, 80)
    canvas.box(0.31, 0.0, 0.08, 0.7, TYRE)
    canvas.box(0.1, 1.0, 0.5, 0.04, (50, 50, 52))
    for side in (-1, 1):
        canvas.line([(0.35 + side * 0.18, 1.38), (0.35 + side * 0.27, 1.2), (0.35 + side * 0.22, 1.02)], 0.1, coat)
    canvas.polygon([(0.2, 0.82), (0.5, 0.82), (0.56, 1.3), (0.46, 1.46), (0.24, 1.46), (0.14, 1.3)], coat)
    canvas.ellipse(0.35, 1.57, 0.09, 0.12, SKIN)
    canvas.ellipse(0.35, 1.64, 0.11, 0.09, (212, 208, 60))
    canvas.box(0.31, 0.62, 0.08, 0.06, (200, 30, 30))
    return canvas


def _rider_side(coat: Colour) -> Canvas:
    """Draw a cyclist seen from the side, riding to the right."""
    canvas = Canvas(1.8, 1.75, 80)
    for hub in (0.36, 1.42):
        for turn in np.linspace(0, 6.28, 25):
            x, y = hub + 0.31 * np.cos(turn), 0.35 + 0.31 * np.sin(turn)
            canvas.line([(x, y), (hub + 0.31 * np.cos(turn + 0.27), 0.35 + 0.31 * np.sin(turn + 0.27))], 0.06, TYRE)
    canvas.line([(0.36, 0.35), (0.65, 0.8), (1.25, 0.85), (0.85, 0.35), (0.36, 0.35)], 0.06, (170, 40, 40))
    canvas.line([(1.42, 0.35), (1.22, 1.0), (1.32, 1.05)], 0.06, (50, 50, 52))
    canvas.line([(0.62, 0.92), (0.98, 0.62), (0.86, 0.3)], 0.15, (50, 54, 70))
    canvas.line([(0.64, 0.95), (0.98, 1.38)], 0.3, coat)
    canvas.line([(0.98, 1.34), (1.15, 1.12), (1.3, 1.05)], 0.1, mixed(coat, (0, 0, 0), 0.2))
    canvas.ellipse(1.08, 1.55, 0.1, 0.12, SKIN)
    canvas.ellipse(1.06, 1.62, 0.12, 0.09, (212, 208, 60))
    return canvas


def _furniture(random: np.random.Generator) -> Named:
    pole = Canvas(0.2, 6, 60)
    for strip in range(10):
        light = 0.6 + 0.4 * np.sin(np.pi * (strip + 0.5) / 10)
        pole.box(strip * 0.02, 0, 0.02, 6, tuple(int(value * light) for value in (122, 126, 124)))
    pole.box(0, 0, 0.2, 0.9, (70, 74, 72))
    yield "pole", pole.pixels(random, 0.05)
    arm = Canvas(1.8, 0.4, 50)
    arm.line([(0, 0.1), (0.9, 0.26), (1.4, 0.28)], 0.1, (110, 114, 112))
    arm.polygon([(1.1, 0.2), (1.8, 0.2), (1.7, 0.36), (1.2, 0.36)], (150, 152, 150))
    yield "arm", arm.pixels(random, 0.05)
    limit = Canvas(0.75, 0.75, 80)
    limit.ellipse(0.375, 0.375, 0.37, 0.37, (196, 30, 34))
    limit.ellipse(0.375, 0.375, 0.27, 0.27, (240, 240, 238))
    limit.box(0.2, 0.24, 0.12, 0.28, (20, 20, 20))
    limit.box(0.42, 0.24, 0.13, 0.28, (20, 20, 20))
    yield "sign0", limit.pixels(random, 0.04)
    warning = Canvas(0.9, 0.8, 80)
    warning.polygon([(0, 0), (0.9, 0), (0.45, 0.8)], (200, 34, 36))
    warning.polygon([(0.16, 0.09), (0.74, 0.09), (0.45, 0.6)], (242, 242, 240))
    warning.box(0.41, 0.16, 0.08, 0.28, (24, 24, 24))
    yield "sign1", warning.pixels(random, 0.04)
    plate = Canvas(1.2, 0.8, 80)
    plate.box(0, 0, 1.2, 0.8, (236, 238, 240))
    plate.box(0.04, 0.04, 1.12, 0.72, (28, 74, 156))
    for row in range(2):
        plate.box(0.15, 0.2 + row * 0.28, 0.85 - 0.3 * row, 0.12, (240, 240, 240))
    yield "sign2", plate.pixels(random, 0.04)
    light = Canvas(0.4, 1.1, 80)
    light.box(0, 0, 0.4, 1.1, (26, 28, 28))
    for row, colour in enumerate(((40, 190, 90), (90, 70, 20), (90, 24, 22))):
        light.ellipse(0.2, 0.2 + row * 0.34, 0.13, 0.13, colour)
    yield "sign3", light.pixels(random, 0.04)


def _skies(random: np.random.Generator) -> Named:
    grey = np.full((512, 512, 4), 128, np.uint8)
    yield "grain", roughen(grey, random, 0.09, 0.45)
    cover = np.clip(0.42 + 0.32 * noise(random, 512, 512, 1.7), 0, 1)
    clouds = np.full((512, 512, 4), 255, np.uint8)
    # Blue sky where nothing covers it, white clouds with grey cores where much does.
    for channel, (sky, cloud) in enumerate(((92, 236), (146, 238), (208, 242))):
        core = cloud - 60 * np.clip(cover - 0.6, 0, 1)
        clouds[..., channel] = sky + (core - sky) * np.clip(cover * 1.5 - 0.25, 0, 1)
    yield "clouds", clouds
