"""A bank of pairs with everything frozen computed once: a training step then costs the trained modules alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.jobs.progress import progress_bar
from lowlat.lab.data.pairs import Pairs
from lowlat.lab.methods import View
from lowlat.networks.video_network import VideoNetwork

TOGETHER = 4  # frames that S_l sees at once


class PairSource(Protocol):
    """The interface of what pairs are drawn from, such as `SimulatedPairs` and `ClipPairs`."""

    def batch(self, count: int, generator: Generator, *, middle: bool) -> Pairs:
        """Draw ``count`` pairs; with ``middle`` also a frame part of the way."""


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
    """Pairs drawn once and kept in memory: F_l and F_h in float16, frames and labels in uint8.

    Args:
        network: the trained per-frame network; its S_l looks at the frames.
        sources: the sources of pairs, each with how many to draw from it.
        generator: the randomness of the draws.
        device: where S_l runs.
    """

    def __init__(
        self,
        network: VideoNetwork,
        sources: Sequence[tuple[PairSource, int]],
        generator: Generator,
        device: str = "cpu",
    ):
        kept = []
        with progress_bar() as progress:
            bar = progress.add_task("pairs", total=sum(count for _, count in sources))
            for source, count in sources:
                for part in torch.arange(count).split(TOGETHER):
                    kept.append(_kept(network, source.batch(len(part), generator, middle=True), device))
                    progress.advance(bar, len(part))
        self._tensors = [torch.cat(column) for column in zip(*kept, strict=True)]

    def __len__(self) -> int:
        return len(self._tensors[0])

    @property
    def labels(self) -> Tensor:
        """The labels of the current frames, uint8 ``(n, H, W)``."""
        return self._tensors[-1]

    def batch(self, count: int, generator: Generator, device: str = "cpu") -> Batch:
        """Draw ``count`` of the pairs onto ``device``, features in float32."""
        chosen = torch.randint(len(self), (count,), generator=generator)
        drawn = [_ready(tensor[chosen], device) for tensor in self._tensors]
        key_frame, key_low, high, middle_frame, middle_low, frame, low, labels = drawn
        key, middle, current = View(key_frame, key_low), View(middle_frame, middle_low), View(frame, low)
        return Batch(key, high, middle, current, labels.long())


def _ready(tensor: Tensor, device: str) -> Tensor:
    """A tensor on ``device``; features become float32 and channels-last."""
    tensor = tensor.to(device)
    return tensor.float().contiguous(memory_format=torch.channels_last) if tensor.is_floating_point() else tensor


@torch.inference_mode()
def _kept(network: VideoNetwork, pairs: Pairs, device: str) -> list[Tensor]:
    """The tensors of a few pairs: frame and F_l of key, middle and current frames, F_h after the key's, labels."""

    def seen(frames: Tensor) -> tuple[Tensor, Tensor]:
        frames = frames.to(device, memory_format=torch.channels_last)
        low = network.lower(network.normalise(frames)).half().cpu()
        return _shrunk(frames, low), low

    key = _shrunk(pairs.key, pairs.low), pairs.low.half(), pairs.high.half()
    return [*key, *seen(pairs.middle), *seen(pairs.current), pairs.labels.to(torch.uint8)]


def _shrunk(frames: Tensor, low: Tensor) -> Tensor:
    return F.interpolate(frames, low.shape[-2:], mode="area").round().to("cpu", torch.uint8)
