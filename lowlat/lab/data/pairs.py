"""Pairs of frames for training the fast track, with the key frames' features computed once and kept.

Three sources: simulated motion on labelled images, unlabelled clips with the per-frame network's labels as targets, and
labelled video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.jobs.progress import track
from lowlat.lab.data.augment import jitter_colours, sample_images, sample_labels, uniform
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.data.motion import simulate_motion
from lowlat.video.source import open_source

DISTANCES = (2, 10)
SIZE = (360, 480)  # height, width


@dataclass
class Pairs:
    """Pairs: key frames with their features, current frames with labels, and for some a frame between the two."""

    chosen: Tensor | None  # which key frames, of simulated pairs
    low: Tensor  # F_l of the key frames
    high: Tensor  # F_h of the key frames
    middle: Tensor | None  # frames part of the way, float in [0, 255], or None
    current: Tensor  # float (N, 3, H, W) in [0, 255]
    labels: Tensor  # int64 (N, H, W)
    key: Tensor  # the key frames, float (N, 3, H, W) in [0, 255]


Features = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""The per-frame network: float frames ``(N, 3, H, W)`` in [0, 255] -> F_l, F_h, labels uint8 ``(N, H, W)``."""


def random_theta(count: int, generator: Generator, largest: float = 1.6) -> Tensor:
    """Affine views ``(count, 2, 3)`` inside the image: scale 1 to ``largest``, any place, half of them mirrored."""
    scale = uniform(generator, 1.0, largest, count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) / scale
    theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = uniform(generator, -1, 1, count, 2) * (1 - 1 / scale)[:, None]
    return theta


class SimulatedPairs:
    """Key frames are fixed random views of labelled images; current frames are those views after simulated motion.

    The views are drawn once, and their features kept; images, of any sizes, are read when they are needed.

    Args:
        data: a labelled set.
        indices: those of its labelled images to take.
        features: the frozen per-frame network.
        views: how many key frames to draw for each image.
        size: height and width of the pairs.

    Raises:
        ValueError: no images to take.
    """

    def __init__(
        self,
        data: LabelledImages,
        indices: Sequence[int],
        features: Features,
        *,
        views: int,
        generator: Generator,
        size: tuple[int, int] = SIZE,
    ):
        if not indices:
            raise ValueError("SimulatedPairs: expected labelled images, got none; give the indices of some")
        self.data, self.size = data, size
        self.items = [*indices] * views
        self.theta = random_theta(len(self.items), generator)
        # The first view of every image is the whole image.
        self.theta[: len(indices)] = torch.eye(2, 3)
        kept = []
        for part in track(torch.arange(len(self.items)).split(4), "key frames"):
            grid = self._grid(part, torch.zeros(len(part), *self.size, 2))
            low, high, predicted = features(_sampled(self._images(part), grid))
            kept.append((low.half(), high.half(), predicted))
        self.low, self.high, self.predicted = (torch.cat(tensors) for tensors in zip(*kept, strict=True))

    def _images(self, chosen: Tensor) -> list[Tensor]:
        return [self.data.image(self.items[view]) for view in chosen.tolist()]

    def _grid(self, chosen: Tensor, motion: Tensor) -> Tensor:
        grid = F.affine_grid(self.theta[chosen], [len(chosen), 1, *self.size], align_corners=False)
        linear = self.theta[chosen][:, None, None, :, :2]
        return grid + (linear @ motion[..., None]).squeeze(-1)

    def batch(self, count: int, generator: Generator, *, middle: bool) -> Pairs:
        """Draw ``count`` pairs, distance uniform in ``DISTANCES``; with ``middle`` also a frame part of the way."""
        chosen = torch.randint(len(self.items), (count,), generator=generator)
        frames = uniform(generator, *DISTANCES, count)
        motion = simulate_motion(frames, *self.size, generator)
        images, grid = self._images(chosen), self._grid(chosen, motion)
        between = None
        if middle:
            share = uniform(generator, 0.3, 0.8, count, 1, 1, 1)
            between = _sampled(images, self._grid(chosen, motion * share))
        current = jitter_colours(_sampled(images, grid), generator, 0.15)
        key = _sampled(images, self._grid(chosen, torch.zeros_like(motion)))
        void = len(self.data.classes)
        truths = (self.data.label(self.items[view]) for view in chosen.tolist())
        labels = [sample_labels(truth[None], place[None], void) for truth, place in zip(truths, grid, strict=True)]
        low, high = self.low[chosen].float(), self.high[chosen].float()
        return Pairs(chosen, low, high, between, current, torch.cat(labels), key)


def _sampled(images: Sequence[Tensor], grid: Tensor) -> Tensor:
    """Read images, uint8 ``(3, H, W)`` of any sizes, each at its part of ``grid`` ``(N, h, w, 2)``."""
    return torch.cat([sample_images(image[None], place[None]) for image, place in zip(images, grid, strict=True)])


class ClipPairs:
    """Frames of unlabelled clips, each a sequence of one scene, labelled by the per-frame network.

    Args:
        clips: uint8 ``(frames, 3, *SIZE)`` each; a clip shorter than the longest distance is left out.
        features: the frozen per-frame network.
    """

    def __init__(self, clips: list[Tensor], features: Features):
        self.clips = [clip for clip in clips if len(clip) > DISTANCES[1]]
        self.low, self.high, self.labels = [], [], []
        for clip in self.clips:
            parts = [features(part.float()) for part in track(clip.split(4), "clip")]
            low, high, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            self.low.append(low.half())
            self.high.append(high.half())
            self.labels.append(labels)

    def __bool__(self) -> bool:
        return bool(self.clips)

    def draw(self, count: int, generator: Generator) -> list[tuple[int, int, int]]:
        """``count`` times (clip, key frame, current frame)."""
        lengths = torch.tensor([float(len(clip)) for clip in self.clips])
        rows = []
        for clip in torch.multinomial(lengths, count, replacement=True, generator=generator).tolist():
            distance = int(torch.randint(DISTANCES[0], DISTANCES[1] + 1, (), generator=generator))
            key = int(torch.randint(len(self.clips[clip]) - distance, (), generator=generator))
            rows.append((clip, key, key + distance))
        return rows

    def batch(self, count: int, generator: Generator, *, middle: bool) -> Pairs:
        """Draw ``count`` pairs of one clip each, distance uniform in ``DISTANCES``."""
        rows = self.draw(count, generator)
        between = None
        if middle:
            between = torch.stack([self.clips[c][(key + now) // 2] for c, key, now in rows]).float()
        return Pairs(
            None,
            torch.stack([self.low[c][key] for c, key, _ in rows]).float(),
            torch.stack([self.high[c][key] for c, key, _ in rows]).float(),
            between,
            torch.stack([self.clips[c][now] for c, _, now in rows]).float(),
            torch.stack([self.labels[c][now] for c, _, now in rows]).long(),
            torch.stack([self.clips[c][key] for c, key, _ in rows]).float(),
        )


class VideoPairs:
    """Frames of labelled videos: a labelled frame and a key frame before it, the same crop of both.

    The key frames and crops are drawn once, and their features kept; images are read when they are needed.

    Args:
        data: a set with videos; of snippets with one labelled frame each, that frame is always the second one.
        features: the frozen per-frame network.
        keys: how many key frames to draw.
        size: height and width of the pairs.

    Raises:
        ValueError: no labelled frame has a frame ``DISTANCES`` before it in its video.
    """

    def __init__(
        self,
        data: LabelledImages,
        features: Features,
        *,
        keys: int,
        generator: Generator,
        size: tuple[int, int] = SIZE,
    ):
        self.data, self.size = data, size
        followers = _followers(data)
        if not followers:
            first, last = DISTANCES
            raise ValueError(
                f"VideoPairs: expected videos with a labelled frame {first} to {last} frames after another, got none; "
                "take SimulatedPairs for still images"
            )
        indices = list(followers)
        chosen = torch.randint(len(indices), (keys,), generator=generator)
        # In order, so that neighbours in a video are read together.
        self.keys = sorted(indices[index] for index in chosen.tolist())
        self.followers = [followers[key] for key in self.keys]
        self.theta = torch.cat([self._crop(key, generator) for key in track(self.keys, "crops")])
        kept = []
        for part in track(torch.arange(keys).split(4), "key frames"):
            low, high, _ = features(self._look(part, [self.keys[i] for i in part.tolist()]))
            kept.append((low.half(), high.half()))
        self.low, self.high = (torch.cat(tensors) for tensors in zip(*kept, strict=True))

    def _crop(self, key: int, generator: Generator) -> Tensor:
        """A view of `random_theta` within the largest crop of the pairs' shape."""
        height, width = self.data.image(key).shape[-2:]
        largest = min(height / self.size[0], width / self.size[1])
        share = torch.tensor([largest * self.size[1] / width, largest * self.size[0] / height])
        theta = random_theta(1, generator)
        theta[:, [0, 1], [0, 1]] *= share
        theta[:, :, 2] = uniform(generator, -1, 1, 1, 2) * (1 - theta[:, [0, 1], [0, 1]].abs())
        return theta

    def _grid(self, pair: int) -> Tensor:
        return F.affine_grid(self.theta[pair : pair + 1], [1, 1, *self.size], align_corners=False)

    def _look(self, chosen: Tensor, frames: list[int]) -> Tensor:
        """Frames by their indices, float ``(N, 3, H, W)``, each in the crop of its pair."""
        rows = zip(chosen.tolist(), frames, strict=True)
        return torch.cat([sample_images(self.data.image(frame)[None], self._grid(pair)) for pair, frame in rows])

    def batch(self, count: int, generator: Generator, *, middle: bool) -> Pairs:
        """Draw ``count`` pairs; their distances are those within ``DISTANCES`` at which there are labels, all alike."""
        chosen = torch.randint(len(self.keys), (count,), generator=generator)
        current = []
        for pair in chosen.tolist():
            ends = self.followers[pair]
            current.append(ends[int(torch.randint(len(ends), (), generator=generator))])
        between = None
        if middle:
            halves = zip(chosen.tolist(), current, strict=True)
            between = self._look(chosen, [(self.keys[pair] + end) // 2 for pair, end in halves])
        truths = zip(chosen.tolist(), current, strict=True)
        void = len(self.data.classes)
        labels = [sample_labels(self.data.label(end)[None], self._grid(pair), void) for pair, end in truths]
        frames = jitter_colours(self._look(chosen, current), generator, 0.15)
        key = self._look(chosen, [self.keys[pair] for pair in chosen.tolist()])
        low, high = self.low[chosen].float(), self.high[chosen].float()
        return Pairs(chosen, low, high, between, frames, torch.cat(labels), key)


def _followers(data: LabelledImages) -> dict[int, list[int]]:
    """The labelled frames within ``DISTANCES`` after each frame of each video, where there are any."""
    found = {}
    for video in data.videos:
        for key in video:
            ends = range(key + DISTANCES[0], min(key + DISTANCES[1] + 1, video.stop))
            if labelled := [end for end in ends if data.labelled(end)]:
                found[key] = labelled
    return found


def read_clip(path: str | Path, *, cut: float = 40.0, size: tuple[int, int] = SIZE) -> list[Tensor]:
    """Read a video as scenes, resized and cropped to ``size``: uint8 ``(frames, 3, *size)`` each.

    A new scene begins where the mean absolute difference of two frames exceeds ``cut`` grey levels.
    """
    scenes: list[list[Tensor]] = [[]]
    with open_source(path) as source:
        for array in source:
            frame = torch.from_numpy(array).permute(2, 0, 1)[None]
            height, width = frame.shape[-2:]
            scale = max(size[0] / height, size[1] / width)
            scaled = [round(height * scale), round(width * scale)]
            frame = F.interpolate(frame, scaled, mode="bilinear", antialias=True)
            top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
            frame = frame[0, :, top : top + size[0], left : left + size[1]]
            if scenes[-1] and (frame.float() - scenes[-1][-1].float()).abs().mean() > cut:
                scenes.append([])
            scenes[-1].append(frame)
    return [torch.stack(scene) for scene in scenes if scene]
