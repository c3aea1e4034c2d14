"""`NetworkStages`: the stages of a `VideoNetwork` on frames in host memory, for the CPU runtime."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lowlat.networks.backbone import first_of
from lowlat.networks.labels import full_size_labels, scores_on_host
from lowlat.networks.video_network import Anchor, Reduced, VideoNetwork
from lowlat.runtime.options import PreparedNetwork
from lowlat.runtime.protocols import KeyFrame
from lowlat.schedule import Signal


@dataclass
class Low:
    """F_l of a frame with its reductions. Its half of the fast track, as a base's, is computed when first asked for."""

    crossing: Tensor | tuple[Tensor, ...]  # what S_h reads: F_l, or a tuple of F_l and what else crosses the cut
    size: tuple[int, int]  # (H, W) of the frame
    reduced: Reduced | None = None
    path: Sequence[Low] = ()  # the bases along which its F_h is carried; it may grow meanwhile (`KeyFrame`)
    _anchor: Anchor | None = field(default=None, repr=False)

    @property
    def features(self) -> Tensor:
        return first_of(self.crossing)

    def anchor(self, network: VideoNetwork) -> Anchor:
        if self._anchor is None:
            self._anchor = network.anchor(self.reduced)
        return self._anchor


class High(NamedTuple):
    """F_h ``(1, C_h, h, w)``, the frame's size ``(H, W)``, and how many steps along a path F_h has been carried."""

    features: Tensor
    size: tuple[int, int]
    steps: int = 0


class NetworkStages(PreparedNetwork):
    """Runs a network on uint8 RGB frames ``(H, W, 3)``. The engines of several videos may share it."""

    @torch.inference_mode()
    def lower(self, frame: np.ndarray) -> Low:
        """S_l and the reductions of F_l.

        Raises:
            ValueError: ``frame`` is not uint8 ``(H, W, 3)``.
        """
        size = checked_frame("NetworkStages.lower", frame)
        # A view in channels-last layout; the copy covers arrays with negative strides or read-only memory.
        pixels = torch.from_numpy(np.require(frame, requirements=("C", "W")))
        image = pixels.permute(2, 0, 1)[None].to(self.device)
        image = resized(image, working_size(*size, self.pixels, self.network.multiple))
        crossing = self.network.lower(self.network.normalise(image))
        return Low(crossing, size, self.network.reduce(crossing) if self.fast_track else None)

    @torch.inference_mode()
    def higher(self, low: Low) -> High:
        """S_h. It computes the key frame's half of the fast track as well, since that delays no frame here."""
        if self.fast_track:
            low.anchor(self.network)
        return High(self.network.higher(low.crossing), low.size)

    @torch.inference_mode()
    def higher_parts(self, low: Low) -> Generator[None, None, High]:
        """:meth:`higher` as a generator that pauses after each part and returns F_h. The parts are the links of S_h's
        chain, then the steps along the path that there is by then."""
        if self.fast_track:
            low.anchor(self.network)
        features = low.crossing
        for run in self.network.higher_chain():
            yield
            features = run(features, low.crossing)
        return (yield from self.carry(low, High(features, low.size)))

    @torch.inference_mode()
    def carry(self, low: Low, high: High) -> Generator[None, None, High]:
        """Carry F_h of a frame along its path, which may grow meanwhile. Pauses before each step and returns F_h."""
        while high.steps < len(low.path):
            yield
            base, following = (low, *low.path)[high.steps], low.path[high.steps]
            carried = self.network.propagate(base.anchor(self.network), high.features, following.reduced)
            high = High(self.network.fuse(carried, following.reduced).high, low.size, high.steps + 1)
        return high

    def hold(self, key: KeyFrame) -> None:
        """Give the key frame's F_l the path along which S_h has to carry its F_h."""
        key.low.path = key.path

    @torch.inference_mode()
    def classify(self, high: High, scores: str = "") -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the labels of a key frame, uint8 ``(H, W)``; with ``scores``, "grid" or "frame", the scores too."""
        return self._labels(self.network.classify(high.features), high.size, scores)

    @torch.inference_mode()
    def propagate(self, key: KeyFrame, low: Low, scores: str = "") -> tuple[Any, High]:
        """Return the labels of any other frame, or with scores both, as :meth:`classify`, and its carried F_h."""
        _check_size("propagate", key, low)
        network = self.network
        anchor = key.base.anchor(network)
        propagated = network.propagate(anchor, key.high.features, low.reduced)
        fused = network.fuse(propagated, low.reduced)
        return self._labels(fused.scores, low.size, scores), High(fused.high, low.size)

    @torch.inference_mode()
    def measure(self, key: KeyFrame, low: Low, signal: Signal) -> float:
        """Return the predicted deviation from the key frame, or the relative difference of F_l."""
        _check_size("measure", key, low)
        if signal is Signal.DEVIATION:
            return self.network.deviation(key.low.anchor(self.network), low.reduced).item()
        return self.network.difference(key.low.features, low.features).item()

    @staticmethod
    def _labels(scores: Tensor, size: tuple[int, int], asked: str) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        labels = full_size_labels(scores, size)[0].cpu().numpy()
        return (labels, scores_on_host(scores[0], size, asked)) if asked else labels


def _check_size(stage: str, key: KeyFrame, low: Low) -> None:
    """Raise ValueError if the frame has another size than the key frame."""
    if low.size != key.base.size:
        (height, width), (h, w) = key.base.size, low.size
        raise ValueError(
            f"NetworkStages.{stage}: expected a frame of {width}x{height} like the key frame, got {w}x{h}; scale "
            "frames to one size, or restart the engine for the new one"
        )


def checked_frame(who: str, frame: np.ndarray) -> tuple[int, int]:
    """Return the size ``(H, W)`` of a frame; ValueError of ``who`` unless it is uint8 ``(H, W, 3)`` and not empty."""
    array = isinstance(frame, np.ndarray)
    if not array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        got = f"{frame.dtype} {frame.shape}" if array else type(frame).__name__
        raise ValueError(f"{who}: expected an RGB frame, uint8 (H, W, 3), got {got}; convert it first")
    return frame.shape[:2]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 images ``(N, 3, H, W)`` to ``size``; return them as they are if they have it already."""
    if tuple(image.shape[-2:]) == size:
        return image
    # CUDA can't resize integers; a CPU resizes them much faster than floats.
    image = image if image.device.type == "cpu" else image.float()
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def working_size(height: int, width: int, pixels: int | None, multiple: int) -> tuple[int, int]:
    """Return the size `(H, W)` at which a network sees a frame: about ``pixels`` pixels in the frame's own aspect, each
    side a multiple of ``multiple``; the frame's own size if ``pixels`` is None."""
    if pixels is None:
        return height, width
    scale = math.sqrt(pixels / (height * width))
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))
