"""Pairs of frames by simulated motion on labelled images, for data without video."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.augment import jitter_colours, uniform
from lowlat.lab.data.dataset import LabelledImages, rare_classes
from lowlat.lab.data.motion import LONGEST, simulate_motion
from lowlat.lab.data.pairs import DISTANCES, FARTHER, Crops, Features, Pairs, stacked

THINGS = 0.6  # the share of the pairs in which things may move before the rest
CHOSEN = 0.6  # the share of the rare classes whose things do so there
DRIFT = (0.4, 0.1)  # how far they do, see `Moving`


class Moving:
    """A crop of each of several images, with labels, and the motion that it goes through.

    Args:
        images, truths: uint8 ``(3, H, W)`` and ``(H, W)``, of any sizes.
        crops: how images are cropped.
        distances: ``(N,)``, how far the motion goes, see `simulate_motion`.
        drift: how far each moves as a whole besides, at most, to a side and up or down, in halves of a crop at the
            distance `LONGEST`.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        truths: Sequence[Tensor],
        crops: Crops,
        distances: Tensor,
        generator: Generator,
        drift: tuple[float, float] = (0.0, 0.0),
    ):
        self.images, self.truths, self.crops = images, truths, crops
        self.theta = torch.cat([crops.draw(image, generator) for image in images])
        drifts = uniform(generator, -1, 1, len(distances), 1, 1, 2) * torch.tensor(drift)
        self.motion = simulate_motion(distances, *crops.size, generator)
        self.motion = self.motion + drifts * (distances / LONGEST).view(-1, 1, 1, 1)

    def grid(self, share: Tensor) -> Tensor:
        """Return the places that are read after this share of the motion, ``(N, 1, 1, 1)``."""
        linear = self.theta[:, None, None, :, :2]
        return self.crops.grid(self.theta) + (linear @ (self.motion * share)[..., None]).squeeze(-1)

    def look(self, share: Tensor) -> Tensor:
        """Return what is seen then, float ``(N, 3, *size)``."""
        return self.crops.look(self.images, self.theta, self.grid(share))

    def labels(self, share: Tensor, void: int) -> Tensor:
        """Return the labels of what is seen then, int64 ``(N, *size)``; ``void`` where there are none."""
        return self.crops.labels(self.truths, self.grid(share), void)


class Things:
    """Things of rare classes that pass in front of other images. Some appear on the way, and some vanish.

    Args:
        moving: the images that things are cut from, and the motion of the things.
        chosen: which classes count as things in each image, bool ``(N, classes)``.
    """

    def __init__(self, moving: Moving, chosen: Tensor, generator: Generator):
        self.moving, self.void = moving, chosen.shape[1]
        # Void is no thing.
        self.chosen = F.pad(chosen, (0, 1))
        # The shares of the way between which a thing is there. Each end lies within the way for one pair of five.
        self.appear, self.vanish = uniform(generator, -4, 1, len(chosen)), uniform(generator, 0, 5, len(chosen))

    def before(self, frames: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put the things before frames ``(N, 3, H, W)``, as they are after ``share`` ``(N, 1, 1, 1)`` of the way.

        Returns:
            the frames, where in them things are, bool ``(N, H, W)``, and the labels of the things, int64 of that shape.
        """
        there = (self.appear.view_as(share) <= share) & (share < self.vanish.view_as(share))
        labels = self.moving.labels(share, self.void)
        mask = self.chosen.gather(1, labels.flatten(1)).view_as(labels) & there[:, 0]
        return torch.where(mask[:, None], self.moving.look(share), frames), mask, labels


class SimulatedPairs:
    """Pairs whose key frames are random crops of labelled images, and whose current frames are those crops after
    simulated motion. In some of them things of rare classes, cut from another image, move on their own before the rest:
    they cover it and uncover it, appear and vanish, as simulated motion alone never has it.

    Args:
        data: a labelled set, with images of any sizes.
        indices: which of its labelled images to take.
        features: the frozen per-frame network.
        crops: how frames are cropped.
        things: the share of the pairs in which things may move.

    Raises:
        ValueError: there are no images to take.
    """

    def __init__(
        self,
        data: LabelledImages,
        indices: Sequence[int],
        features: Features,
        crops: Crops,
        *,
        things: float = THINGS,
    ):
        if not indices:
            raise ValueError("SimulatedPairs: expected labelled images, got none; give the indices of some")
        self.data, self.indices, self.features, self.crops = data, list(indices), features, crops
        self.rare, self.things = rare_classes(data), things

    def batch(self, count: int, generator: Generator, *, between: int = 0) -> Pairs:
        """Draw ``count`` pairs, distance uniform in ``DISTANCES``, or in ``FARTHER`` with several frames between;
        then every other pair is seen as by another camera.
        """
        void = len(self.data.classes)
        distances = uniform(generator, *(FARTHER if between > 1 else DISTANCES), count)
        ground = self._moving(distances, generator)
        with_things = torch.rand(count, 1, generator=generator) < self.things
        chosen = self.rare & with_things & (torch.rand(count, void, generator=generator) < CHOSEN)
        things = Things(self._moving(distances, generator, DRIFT), chosen, generator) if chosen.any() else None

        def seen(share: Tensor) -> Tensor:
            return things.before(ground.look(share), share)[0] if things else ground.look(share)

        shares = [(place + uniform(generator, 0.3, 0.8, count, 1, 1, 1)) / between for place in range(between)]
        begin, end = torch.zeros(count, 1, 1, 1), torch.ones(count, 1, 1, 1)
        key, *on_the_way = map(seen, (begin, *shares))
        current, labels = ground.look(end), ground.labels(end, void)
        if things:
            current, mask, own = things.before(current, end)
            labels = torch.where(mask, own, labels)
        current = jitter_colours(current, generator, 0.15)
        if between > 1:
            key, *on_the_way, current = other_camera([key, *on_the_way, current], generator)
        return Pairs(*self.features(key), stacked(on_the_way), current, labels, key)

    def _moving(self, distances: Tensor, generator: Generator, *drift: tuple[float, float]) -> Moving:
        chosen = torch.randint(len(self.indices), (len(distances),), generator=generator).tolist()
        images = [self.data.image(self.indices[place]) for place in chosen]
        truths = [self.data.label(self.indices[place]) for place in chosen]
        return Moving(images, truths, self.crops, distances, generator, *drift)


def other_camera(frames: Sequence[Tensor], generator: Generator) -> list[Tensor]:
    """Give every other pair, float ``(N, 3, H, W)`` in [0, 255] for each frame, another tint and gamma, the same in all
    its frames, and noise, drawn for each frame."""
    count = len(frames[0])
    other = (uniform(generator, 0, 1, count, 1, 1, 1) < 0.5).float()
    tint = 1 + other * uniform(generator, -0.2, 0.2, count, 3, 1, 1)
    gamma = torch.exp(other * uniform(generator, -0.5, 0.5, count, 1, 1, 1))
    grain = other * uniform(generator, 0, 6, count, 1, 1, 1)
    seen = [255 * (frame / 255 * tint).clamp(0, 1) ** gamma for frame in frames]
    return [(frame + grain * torch.randn(frame.shape, generator=generator)).clamp(0, 255) for frame in seen]
