"""Pairs of frames that the fast track learns from: a key frame with its features, and a frame some frames later.

There are three kinds: simulated motion on labelled images (`lowlat.lab.data.simulated`), unlabelled clips with the
per-frame network's labels as targets, and frames of videos. Every pair is drawn anew, and images and features are
computed when they are needed: nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.augment import jitter_colours, sample_images, sample_labels, shrunk, uniform
from lowlat.lab.data.dataset import LabelledImages
from lowlat.video.source import open_source

DISTANCES = (2, 10)  # frames
FARTHER = (4, 16)  # frames, where several lie between: S_h that lands late is that far behind
LARGEST = 1.6  # enlargement of a view


@dataclass
class Pairs:
    """Key frames with their features, current frames with labels, and for some pairs the frames between the two."""

    low: Tensor  # F_l of the key frames
    high: Tensor  # F_h of the key frames
    predicted: Tensor  # the per-frame network's labels of the key frames, uint8 (N, H, W)
    between: Tensor | None  # frames on the way, float (N, frames, 3, H, W) in [0, 255], or None
    current: Tensor  # float (N, 3, H, W) in [0, 255]
    labels: Tensor | None  # int64 (N, H, W); None where nobody labelled them
    key: Tensor  # the key frames, float (N, 3, H, W) in [0, 255]


Features = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""The per-frame network: float frames ``(N, 3, H, W)`` in [0, 255] -> F_l, F_h, labels uint8 ``(N, H, W)``."""
Seen = Callable[[int, int], tuple[int, int]]
"""The working size of a frame of the given height and width."""


class PairKind(Protocol):
    """The interface of a source that pairs are drawn from."""

    def batch(self, count: int, generator: Generator, *, between: int = 0) -> Pairs:
        """Draw ``count`` pairs, with ``between`` frames between key and current frame, in their order."""


@dataclass(frozen=True)
class Crops:
    """The crops of frames that pairs are made of. The aspect is kept: what does not fit is cut off.

    Args:
        size: height and width of a crop.
        seen: the working size that sets the scale; by default the smallest that a crop fits into.
    """

    size: tuple[int, int]
    seen: Seen | None = None

    def whole(self, height: int, width: int) -> tuple[float, float]:
        """Return the height and width of a whole frame at the scale of the crops: its working size, enlarged to hold a
        crop."""
        seen = self.seen(height, width) if self.seen else (height, width)
        ratios = [crop / side for crop, side in zip(self.size, seen, strict=True)]
        scale = max(1.0, *ratios) if self.seen else max(ratios)
        return seen[0] * scale, seen[1] * scale

    def draw(self, image: Tensor, generator: Generator) -> Tensor:
        """Draw one crop as an affine view ``(1, 2, 3)`` inside ``image``: half of them enlarged by up to `LARGEST`, at
        any place, half of them mirrored."""
        height, width = self.whole(*image.shape[-2:])
        enlarged = torch.rand((), generator=generator) < 0.5
        scale = uniform(generator, 1.0, LARGEST, 1) if enlarged else torch.ones(1)
        share = torch.tensor([self.size[1] / width, self.size[0] / height]) / scale
        theta = torch.zeros(1, 2, 3)
        theta[:, 0, 0] = share[0] if torch.rand((), generator=generator) < 0.5 else -share[0]
        theta[:, 1, 1] = share[1]
        theta[:, :, 2] = uniform(generator, -1, 1, 1, 2) * (1 - share)
        return theta

    def grid(self, theta: Tensor) -> Tensor:
        """Return the places that crops read, ``(N, *size, 2)``."""
        return F.affine_grid(theta, [len(theta), 1, *self.size], align_corners=False)

    def look(self, images: Sequence[Tensor], theta: Tensor, grid: Tensor) -> Tensor:
        """Read images, uint8 ``(3, H, W)`` of any sizes, each at its part of ``grid``: float ``(N, 3, *size)``."""
        crops = []
        for image, (across, down), places in zip(images, theta[:, [0, 1], [0, 1]].abs().tolist(), grid, strict=True):
            image = shrunk(image[None], self.size[0] / down, self.size[1] / across)
            crops.append(sample_images(image, places[None]))
        return torch.cat(crops)

    def labels(self, truths: Sequence[Tensor], grid: Tensor, void: int) -> Tensor:
        """Read label maps, uint8 ``(H, W)`` of any sizes, as `look` reads images: int64 ``(N, *size)``."""
        read = zip(truths, grid, strict=True)
        return torch.cat([sample_labels(truth[None], places[None], void) for truth, places in read])


def stacked(frames: Sequence[Tensor]) -> Tensor | None:
    """Join frames ``(N, 3, H, W)`` to ``(N, frames, 3, H, W)``; None for none."""
    return torch.stack(list(frames), 1) if frames else None


class ClipPairs:
    """Frames of unlabelled clips, each a sequence of one scene, labelled by the per-frame network.

    Args:
        clips: uint8 ``(frames, 3, H, W)`` each, as `read_clip` gives them; a clip shorter than the longest distance is
            left out.
        features: the frozen per-frame network.
    """

    def __init__(self, clips: list[Tensor], features: Features):
        self.clips = [clip for clip in clips if len(clip) > DISTANCES[1]]
        self.features = features

    def __bool__(self) -> bool:
        return bool(self.clips)

    def draw(self, count: int, generator: Generator, *, between: int = 0) -> list[list[int]]:
        """Draw a clip ``count`` times, and the frames from key to current frame, ``between`` of them between."""
        lengths = torch.tensor([float(len(clip)) for clip in self.clips])
        rows = []
        for clip in torch.multinomial(lengths, count, replacement=True, generator=generator).tolist():
            nearest, farthest = FARTHER if between > 1 else DISTANCES
            farthest = min(farthest, len(self.clips[clip]) - 1)
            distance = int(torch.randint(max(nearest, between + 1), farthest + 1, (), generator=generator))
            key = int(torch.randint(len(self.clips[clip]) - distance, (), generator=generator))
            stops = 1 + torch.randperm(distance - 1, generator=generator)[:between].sort().values
            rows.append([clip, key, *(key + stops).tolist(), key + distance])
        return rows

    def batch(self, count: int, generator: Generator, *, between: int = 0) -> Pairs:
        """Draw ``count`` pairs of one clip each, distance uniform in ``DISTANCES``, or in ``FARTHER`` as far as the
        clip goes with several frames between."""
        rows = self.draw(count, generator, between=between)
        key, *on_the_way, current = (
            torch.stack([self.clips[clip][row[place]] for clip, *row in rows]).float() for place in range(between + 2)
        )
        return Pairs(*self.features(key), stacked(on_the_way), current, self.features(current)[2].long(), key)


class VideoPairs:
    """Pairs of frames of a set's videos, with the same crop of both.

    Args:
        data: a set with videos; in snippets with one labelled frame, that frame is always the second one.
        features: the frozen per-frame network.
        crops: how frames are cropped.
        labelled: whether the second frame must have labels; if not, any frame will do, and pairs have no labels.

    Raises:
        ValueError: no such frame has a frame ``DISTANCES`` before it in its video.
    """

    def __init__(self, data: LabelledImages, features: Features, crops: Crops, *, labelled: bool = True):
        self.data, self.features, self.crops, self.labelled = data, features, crops, labelled
        self.followers = followers(data, labelled=labelled)
        if not self.followers:
            first, last = DISTANCES
            raise ValueError(
                f"VideoPairs: expected videos with a {'labelled ' * labelled}frame {first} to {last} frames after "
                "another, got none; take SimulatedPairs for still images"
            )
        self.keys = list(self.followers)

    def batch(self, count: int, generator: Generator, *, between: int = 0) -> Pairs:
        """Draw ``count`` pairs; their distances are those within ``DISTANCES`` that there are, all alike."""
        data, crops = self.data, self.crops
        chosen = torch.randint(len(self.keys), (count,), generator=generator).tolist()
        keys = [self.keys[place] for place in chosen]
        ends = []
        for key in keys:
            later = self.followers[key]
            ends.append(later[int(torch.randint(len(later), (), generator=generator))])
        images = [data.image(key) for key in keys]
        theta = torch.cat([crops.draw(image, generator) for image in images])
        grid = crops.grid(theta)
        on_the_way = []
        for stop in range(1, between + 1):
            stops = [key + (end - key) * stop // (between + 1) for key, end in zip(keys, ends, strict=True)]
            on_the_way.append(crops.look([data.image(index) for index in stops], theta, grid))
        current = crops.look([data.image(end) for end in ends], theta, grid)
        labels = None
        if self.labelled:
            labels = crops.labels([data.label(end) for end in ends], grid, len(data.classes))
        key = crops.look(images, theta, grid)
        current = jitter_colours(current, generator, 0.15)
        return Pairs(*self.features(key), stacked(on_the_way), current, labels, key)


def followers(data: LabelledImages, *, labelled: bool = True) -> dict[int, list[int]]:
    """Return the frames within ``DISTANCES`` after each frame of each video that has some; only labelled ones with
    ``labelled``."""
    found = {}
    for video in data.videos:
        for key in video:
            ends = range(key + DISTANCES[0], min(key + DISTANCES[1] + 1, video.stop))
            if later := [end for end in ends if not labelled or data.labelled(end)]:
                found[key] = later
    return found


def read_clip(path: str | Path, crops: Crops, *, cut: float = 40.0) -> list[Tensor]:
    """Read a video as scenes, the middle crop of every frame: uint8 ``(frames, 3, *crops.size)`` each.

    A new scene begins where the mean absolute difference of two frames exceeds ``cut`` grey levels.
    """
    scenes: list[list[Tensor]] = [[]]
    height, width = crops.size
    with open_source(path) as source:
        for array in source:
            frame = torch.from_numpy(array).permute(2, 0, 1)[None]
            whole = [
                max(crop, round(side)) for crop, side in zip(crops.size, crops.whole(*array.shape[:2]), strict=True)
            ]
            frame = F.interpolate(frame, whole, mode="bilinear", antialias=True)
            top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
            frame = frame[0, :, top : top + height, left : left + width]
            if scenes[-1] and (frame.float() - scenes[-1][-1].float()).abs().mean() > cut:
                scenes.append([])
            scenes[-1].append(frame)
    return [torch.stack(scene) for scene in scenes if scene]
