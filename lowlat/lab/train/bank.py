"""Pairs as methods see them: from a bank, where everything frozen has been computed once, or drawn afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.pairs import Features, PairKind, Pairs
from lowlat.lab.methods import View
from lowlat.lab.train.batch import collate
from lowlat.lab.train.shelf import Shelf
from lowlat.networks.backbone import first_of
from lowlat.networks.video_network import VideoNetwork

LABELS = 5  # the place of the labels among the tensors of a pair that are kept


class Batch(NamedTuple):
    """Pairs as methods see them: views of the key frames and of all later ones up to the current frames, F_h of the key
    frames, labels of the current ones, and the per-frame network's scores of the later ones where they are wanted.

    The frames in the views are shrunk to the size of F_l.
    """

    key: View
    high: Tensor
    later: tuple[View, ...]
    labels: Tensor  # int64 (N, H, W)
    scores: Tensor | None  # (N, later, classes, h, w)


class Bank:
    """Pairs drawn once and kept: F_l and F_h in float16, frames and labels in uint8.

    Args:
        network: the trained per-frame network; its S_l looks at the frames.
        kinds: the kinds of pairs, each with how many to draw of it.
        seed: the seed of the draws.
        device: where S_l runs.
        between: frames between key and current frame.
        teacher: the frozen per-frame network, where its scores of the later frames are wanted.
        folder, about: see `Shelf`.
    """

    def __init__(
        self,
        network: VideoNetwork,
        kinds: Sequence[tuple[PairKind, int]],
        *,
        seed: int,
        device: str = "cpu",
        between: int = 1,
        teacher: Features | None = None,
        folder: Path | None = None,
        about: Mapping[str, object] | None = None,
    ):
        self.between = between
        of_each = [kind for kind, count in kinds for _ in range(count)]

        def draw(numbers: range, generator: Generator) -> list[Tensor]:
            wanted = [of_each[number] for number in numbers]
            drawn = [(kind, wanted.count(kind)) for kind in dict.fromkeys(wanted)]
            pairs = [kind.batch(n, generator, between=between) for kind, n in drawn]
            return collate([_kept(network, of_kind, device, teacher) for of_kind in pairs])

        self.shelf = Shelf("pairs", draw, len(of_each), seed=seed, folder=folder, about=about)

    def __len__(self) -> int:
        return len(self.shelf)

    @property
    def labels(self) -> Tensor:
        """The labels of the current frames, uint8 ``(n, H, W)``."""
        return self.shelf.column(LABELS)

    def batch(self, count: int, generator: Generator, device: str = "cpu") -> Batch:
        """Draw ``count`` of the pairs onto ``device``, features in float32."""
        return _ready(self.shelf.batch(count, generator), device)

    def remove(self) -> None:
        """Remove the files of the bank."""
        self.shelf.remove()


class Fresh:
    """Pairs drawn afresh, everything frozen computed each time: what a GPU with crops of 713 is better off with.

    Args:
        network, device, between, teacher: as `Bank` takes them.
        kinds: the kinds of pairs, each with its share of the draws.
    """

    def __init__(
        self,
        network: VideoNetwork,
        kinds: Sequence[tuple[PairKind, int]],
        *,
        device: str = "cpu",
        between: int = 1,
        teacher: Features | None = None,
    ):
        self.network, self.device, self.between, self.teacher = network, device, between, teacher
        self.kinds = [kind for kind, _ in kinds]
        self.shares = torch.tensor([float(share) for _, share in kinds])

    def batch(self, count: int, generator: Generator, device: str = "cpu") -> Batch:
        """Draw ``count`` pairs onto ``device``, features in float32."""
        chosen = torch.multinomial(self.shares, count, replacement=True, generator=generator).tolist()
        drawn = [self.kinds[place].batch(1, generator, between=self.between) for place in chosen]
        return _ready(collate([_kept(self.network, pairs, self.device, self.teacher) for pairs in drawn]), device)

    def remove(self) -> None:
        """Nothing is kept."""


def _ready(columns: Sequence[Tensor], device: str) -> Batch:
    """Tensors as `_kept` gives them, on ``device``."""
    key, low, high, frames, lows, labels, *scores = (_on(column, device) for column in columns)
    later = tuple(View(*seen) for seen in zip(frames.unbind(1), map(_on_channels, lows.unbind(1)), strict=True))
    return Batch(View(key, low), high, later, labels.long(), scores[0] if scores else None)


def _on(tensor: Tensor, device: str) -> Tensor:
    """Return a tensor on ``device``; features become float32 and channels-last."""
    tensor = tensor.to(device)
    return _on_channels(tensor.float()) if tensor.is_floating_point() else tensor


def _on_channels(features: Tensor) -> Tensor:
    return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features


@torch.inference_mode()
def _kept(network: VideoNetwork, pairs: Pairs, device: str, teacher: Features | None) -> list[Tensor]:
    """Return the tensors of a few pairs: frame, F_l and F_h of the key frames, frames and F_l of the later ones,
    labels, and with a teacher its scores of the later ones."""
    frames, lows, scores = [], [], []
    for later in (*(pairs.between.unbind(1) if pairs.between is not None else ()), pairs.current):
        later = later.to(device, memory_format=torch.channels_last)
        if teacher is None:
            low = first_of(network.lower(network.normalise(later)))
        else:
            low, high, _ = teacher(later)
            scores.append(network.classify(high.to(device)).half().cpu())
        frames.append(_shrunk(later, low))
        lows.append(low.half().cpu())
    key = _shrunk(pairs.key, pairs.low), pairs.low.half(), pairs.high.half()
    kept = [*key, torch.stack(frames, 1), torch.stack(lows, 1), pairs.labels.to(torch.uint8)]
    return [*kept, torch.stack(scores, 1)] if scores else kept


def _shrunk(frames: Tensor, low: Tensor) -> Tensor:
    return F.interpolate(frames, low.shape[-2:], mode="area").round().to("cpu", torch.uint8)
