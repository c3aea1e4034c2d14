"""Unlabelled video as a bank of features: every frame seen once by the per-frame network, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from lowlat.jobs.progress import progress_bar
from lowlat.lab.data.pairs import DISTANCES
from lowlat.runtime.words import counted
from lowlat.video.frames import is_cut
from lowlat.video.source import open_source

RUN = 60  # consecutive frames taken at a time from a video of more frames than are wanted

Look = Callable[[np.ndarray], tuple[Tensor, Tensor, Tensor]]
"""uint8 RGB ``(H, W, 3)`` -> (F_l, F_h, scores) of the per-frame network, each ``(1, ...)`` on the CPU."""


@dataclass(frozen=True)
class Batch:
    """Pairs by their features: a key frame, a current frame with its scores, for some also one half-way between."""

    key_low: Tensor
    key_high: Tensor
    middle_low: Tensor | None
    low: Tensor
    scores: Tensor


class Recording:
    """The features of one video, kept in half precision; its last part held out.

    Args:
        path: a video or a folder of images.
        look: the frozen per-frame network.
        frames: how many to take at most; a longer video gives runs of ``RUN`` frames, spread evenly.
        held_out: share of the frames, from the end, that is never trained on.

    Raises:
        SourceError: no such video.
        ValueError: no scene in either part holds two frames ``DISTANCES[1]`` apart.
    """

    def __init__(self, path: str | Path, look: Look, *, frames: int, held_out: float):
        self.name = Path(path).name
        kept, self.scenes = [], []
        for frame, scene in scenes(path, frames):
            kept.append([tensor.half() for tensor in look(frame)])
            self.scenes.append(scene)
        self.low, self.high, self.scores = (torch.cat(tensors) for tensors in zip(*kept, strict=True))
        self.first_held_out = round(len(self) * (1 - held_out))
        for part, pairs in (("trained on", self.trained(DISTANCES[1])), ("held out", self.held_out(DISTANCES[1]))):
            if not pairs:
                raise ValueError(
                    f"train: expected a scene of more than {DISTANCES[1]} frames in the part of {path} that is "
                    f"{part}, found none in {counted(len(self), 'frame')}; take more of it, or give another video, of "
                    f"{least_frames(held_out)} frames at least and with fewer cuts"
                )

    def __len__(self) -> int:
        return len(self.scenes)

    def _pairs(self, first: int, last: int, distance: int) -> list[tuple[int, int]]:
        starts = range(first, last - distance)
        return [(key, key + distance) for key in starts if self.scenes[key] == self.scenes[key + distance]]

    def trained(self, distance: int) -> list[tuple[int, int]]:
        """Return indices (key, current) of frames so far apart, in one scene of the part that is trained on."""
        return self._pairs(0, self.first_held_out, distance)

    def held_out(self, distance: int) -> list[tuple[int, int]]:
        """Return indices (key, current) of frames so far apart, in one scene of the part that is held out."""
        return self._pairs(self.first_held_out, len(self), distance)

    def draw(self, generator: Generator, *, middle: bool) -> Batch:
        """Draw one pair from the part that is trained on, its distance uniform in ``DISTANCES``."""
        return self.batch([self._drawn(generator)], middle=middle)

    def draw_deviation(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw such a pair for the selector: F_l of both frames, and the share of positions ``(1,)`` whose best class
        differs."""
        key, current = self._drawn(generator)
        before, after = (self.scores[frame : frame + 1].max(1).indices for frame in (key, current))
        changed = (before != after).float().mean((1, 2))
        return self.low[key : key + 1].float(), self.low[current : current + 1].float(), changed

    def _drawn(self, generator: Generator) -> tuple[int, int]:
        pairs = self.trained(int(torch.randint(DISTANCES[0], DISTANCES[1] + 1, (), generator=generator)))
        return pairs[int(torch.randint(len(pairs), (), generator=generator))]

    def batch(self, pairs: list[tuple[int, int]], *, middle: bool = False) -> Batch:
        """Return the features of (key, current) pairs, float32; with ``middle`` also those of the frames half-way."""
        keys, currents = torch.tensor(pairs).T
        between = self.low[(keys + currents) // 2].float() if middle else None
        kept = (self.low[keys], self.high[keys], self.low[currents], self.scores[currents])
        key_low, key_high, low, scores = (tensor.float() for tensor in kept)
        return Batch(key_low, key_high, between, low, scores)


def least_frames(held_out: float) -> int:
    """Return how many frames a video without cuts needs, for two ``DISTANCES[1]`` apart in either part."""
    part = DISTANCES[1] + 1
    first = max(2 * part, int(part / min(held_out, 1 - held_out)) - part)
    return next(total for total in count(first) if part <= round(total * (1 - held_out)) <= total - part)


def check_length(path: str | Path, frames: int, held_out: float) -> None:
    """``ValueError`` for a video with too few frames for a `Recording`; reads no more of it than it needs to."""
    least = least_frames(held_out)
    with open_source(path) as source:
        found = frames if source.live else sum(1 for _ in islice(source, min(least, frames)))
    if found < least:
        raise ValueError(
            f"train: expected a video of at least {least} frames, got {counted(found, 'frame')} of {path}; give a "
            "longer one, or take more of it with --frames"
        )


def scenes(path: str | Path, frames: int) -> Iterator[tuple[np.ndarray, int]]:
    """Return frames of a video with the number of their scene: a new one begins at a cut, or where frames are left
    out."""
    with open_source(path) as source, progress_bar() as progress:
        total = source.frames
        period = max(RUN, round(total * RUN / frames)) if total else RUN
        bar = progress.add_task(source.name, total=min(total, frames) if total else None)
        scene, taken, before = 0, 0, None
        for index, frame in enumerate(source):
            if taken == frames:
                return
            if index % period >= RUN:
                before = None
                continue
            if taken and (before is None or is_cut(before, frame)):
                scene += 1
            before, taken = frame, taken + 1
            progress.update(bar, advance=1)
            yield frame, scene
