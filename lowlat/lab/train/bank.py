"""Pairs as methods see them: from a bank, where everything frozen has been computed once, or drawn afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.pairs import PairKind, Pairs
from lowlat.lab.methods import View
from lowlat.lab.train.batch import collate
from lowlat.lab.train.shelf import Shelf
from lowlat.networks.backbone import first_of
from lowlat.networks.video_network import VideoNetwork


class Batch(NamedTuple):
    """Pairs as methods see them: views of three frames, F_h of the key frames, labels of the current ones.

    The frames in the views are shrunk to the size of F_l.
    """

    key: View
    high: Tensor
    middle: View
    current: View
    labels: Tensor  # int64 (N, H, W)


class Bank:
    """Pairs drawn once and kept: F_l and F_h in float16, frames and labels in uint8.

    Args:
        network: the trained per-frame network; its S_l looks at the frames.
        kinds: the kinds of pairs, each with how many to draw of it.
        seed: the seed of the draws.
        device: where S_l runs.
        folder, about: see `Shelf`.
    """

    def __init__(
        self,
        network: VideoNetwork,
        kinds: Sequence[tuple[PairKind, int]],
        *,
        seed: int,
        device: str = "cpu",
        folder: Path | None = None,
        about: Mapping[str, object] | None = None,
    ):
        of_each = [kind for kind, count in kinds for _ in range(count)]

        def draw(numbers: range, generator: Generator) -> list[Tensor]:
            wanted = [of_each[number] for number in numbers]
            drawn = [(kind, wanted.count(kind)) for kind in dict.fromkeys(wanted)]
            return collate([_kept(network, kind.batch(n, generator, middle=True), device) for kind, n in drawn])

        self.shelf = Shelf("pairs", draw, len(of_each), seed=seed, folder=folder, about=about)

    def __len__(self) -> int:
        return len(self.shelf)

    @property
    def labels(self) -> Tensor:
        """The labels of the current frames, uint8 ``(n, H, W)``."""
        return self.shelf.column(-1)

    def batch(self, count: int, generator: Generator, device: str = "cpu") -> Batch:
        """Draw ``count`` of the pairs onto ``device``, features in float32."""
        return _ready(self.shelf.batch(count, generator), device)

    def remove(self) -> None:
        """Remove the files of the bank."""
        self.shelf.remove()


class Fresh:
    """Pairs drawn afresh, everything frozen computed each time: what a GPU with crops of 713 is better off with.

    Args:
        network, device: as `Bank` takes them.
        kinds: the kinds of pairs, each with its share of the draws.
    """

    def __init__(self, network: VideoNetwork, kinds: Sequence[tuple[PairKind, int]], *, device: str = "cpu"):
        self.network, self.device = network, device
        self.kinds = [kind for kind, _ in kinds]
        self.shares = torch.tensor([float(share) for _, share in kinds])

    def batch(self, count: int, generator: Generator, device: str = "cpu") -> Batch:
        """Draw ``count`` pairs onto ``device``, features in float32."""
        chosen = torch.multinomial(self.shares, count, replacement=True, generator=generator).tolist()
        drawn = [self.kinds[place].batch(1, generator, middle=True) for place in chosen]
        return _ready(collate([_kept(self.network, pairs, self.device) for pairs in drawn]), device)

    def remove(self) -> None:
        """Nothing is kept."""


def _ready(columns: Sequence[Tensor], device: str) -> Batch:
    """Tensors as `_kept` gives them, on ``device``."""
    key_frame, key_low, high, middle_frame, middle_low, frame, low, labels = (_on(column, device) for column in columns)
    key, middle, current = View(key_frame, key_low), View(middle_frame, middle_low), View(frame, low)
    return Batch(key, high, middle, current, labels.long())


def _on(tensor: Tensor, device: str) -> Tensor:
    """A tensor on ``device``; features become float32 and channels-last."""
    tensor = tensor.to(device)
    return tensor.float().contiguous(memory_format=torch.channels_last) if tensor.is_floating_point() else tensor


@torch.inference_mode()
def _kept(network: VideoNetwork, pairs: Pairs, device: str) -> list[Tensor]:
    """The tensors of a few pairs: frame and F_l of key, middle and current frames, F_h after the key's, labels."""

    def seen(frames: Tensor) -> tuple[Tensor, Tensor]:
        frames = frames.to(device, memory_format=torch.channels_last)
        low = first_of(network.lower(network.normalise(frames))).half().cpu()
        return _shrunk(frames, low), low

    key = _shrunk(pairs.key, pairs.low), pairs.low.half(), pairs.high.half()
    return [*key, *seen(pairs.middle), *seen(pairs.current), pairs.labels.to(torch.uint8)]


def _shrunk(frames: Tensor, low: Tensor) -> Tensor:
    return F.interpolate(frames, low.shape[-2:], mode="area").round().to("cpu", torch.uint8)
