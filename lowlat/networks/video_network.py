"""`VideoNetwork`: the whole network of the paper, as the stages that a schedule runs. It keeps no state of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.classes import Classes
from lowlat.networks.backbone import Backbone, Link, link, run_chain
from lowlat.networks.fast_track import (
    AdaptNet,
    Correction,
    Fusion,
    KernelPredictor,
    KeyFrameSelector,
    MatchingPredictor,
)
from lowlat.networks.layers import ConvBN
from lowlat.networks.pyramid import PyramidPooling
from svconv import svconv2d


class Reduced(NamedTuple):
    """F_l, reduced for each of its three readers: predictor, AdaptNet and selector; each ``(N, channels, h, w)``.

    Where the classifier reads F_l, ``adapt`` ends with the whole of it, since fusion hands it on.
    """

    predict: Tensor
    adapt: Tensor
    select: Tensor


class Anchor(NamedTuple):
    """The key frame's half of the fast track, computed once a key frame; each ``(N, channels, h, w)``."""

    predict: Tensor
    select: Tensor


class Fused(NamedTuple):
    """The results of the fast track for a frame."""

    scores: Tensor
    """``(N, classes, fineness * h, fineness * w)``."""
    high: Tensor
    """The carried F_h, ``(N, C_h, h, w)``: later frames are propagated from it if this frame becomes the base."""


@dataclass(frozen=True)
class Widths:
    """Sizes of the modules around a backbone."""

    higher: int  # channels of F_h
    reduced: int  # channels of the reduced F_l for the predictor, AdaptNet and the selector, each
    fused: int  # channels within fusion
    kernel_size: int = 9  # of propagation


class VideoNetwork(nn.Module):
    """A backbone split into S_l and S_h, with the modules of propagation, fusion and selection.

    Args:
        backbone: the backbone, which says where it is split.
        classes: the number of classes.
        widths: channels of the modules.
        mean, std: normalisation of RGB in [0, 1], per channel.
        head_dilation: dilation of the 3x3 convolution that ends S_h.
        padding_mode: that of ``svconv2d`` in propagation; the paper's plain reading is ``"zeros"``.
        fineness: how many scores a side each position of F_h gives: 1, or 2 for scores of twice the size.
        smooth: whether scores are smoothed by (1, 2, 1) / 4 from row to row, so that labels don't comb along edges.
        refine: whether the classifier begins with a 3x3 convolution that reads F_l beside F_h (Chen et al.,
            "DeepLabv3+", Section 3.1); with ``correct``. F_h then ends with its frame's F_l, which fusion replaces by
            that of the frame that F_h is carried to: edges are the frame's own, and what is carried may be coarse.
        match: whether kernels are predicted by comparing both frames' F_l at every tap
            (:class:`~lowlat.networks.fast_track.MatchingPredictor`), rather than from both side by side.
        correct: whether fusion corrects the propagated F_h, which the key frames' classifier then reads and later
            frames are propagated from (:class:`~lowlat.networks.fast_track.Correction`), rather than giving scores
            and leaving F_h as it is.
        align_corners: whether the head's pools are resized with corners aligned. Such a network is made for sides of 8
            k + 1 pixels and has its scores on pixels: it leaves out the first 3 and last 4 rows and columns of a frame,
            so that each score lies in the middle of its 8 pixels, as in other networks.

    Attributes:
        pixels: about how many pixels a frame is resized to for the network, with its aspect kept (its working size);
            None leaves frames as they are. Like the attributes below it is kept with the weights.
        multiple: the sides of the working size are multiples of so many pixels.
        threshold: the predicted deviation above which a frame becomes a key frame by default.
        legend: the classes' names and colours.
        name: the name that `lowlat.models.build` makes the network by; empty for a network made otherwise.
        options: further arguments of `lowlat.models.build`, for a variant of the network.
        untrained: the names of the modules that nobody has trained.
    """

    pixels: int | None = 480 * 360
    multiple = 8
    threshold = 0.2
    name = ""
    untrained: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        widths: Widths,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        head_dilation: int = 1,
        padding_mode: str = "renormalize",
        fineness: int = 1,
        smooth: bool = False,
        refine: bool = False,
        match: bool = False,
        correct: bool = False,
        align_corners: bool = False,
    ):
        super().__init__()
        channels_low = backbone.low_channels
        channels_last = list(backbone.channels.values())[-1]
        scores = classes * fineness**2
        self.moved = widths.higher  # the channels of F_h before the F_l that it may end with
        self.classes = classes
        self.legend = Classes.numbered(classes)
        self.padding_mode = padding_mode
        self.fineness, self.smooth = fineness, smooth
        self.align_corners = align_corners
        self.options: dict[str, Any] = {}
        self.backbone = backbone
        self.head = PyramidPooling(channels_last, widths.higher, dilation=head_dilation, align_corners=align_corners)
        self.refine = ConvBN(widths.higher + channels_low, widths.higher, 3) if refine else None
        self.classifier = nn.Conv2d(widths.higher, scores, 1)
        self.reduction = ConvBN(channels_low, 3 * widths.reduced, 3, relu=False)
        self.correct = correct
        self.predictor = (MatchingPredictor if match else KernelPredictor)(widths.reduced, widths.kernel_size)
        self.adapt = AdaptNet(widths.reduced)
        inputs = widths.higher, widths.reduced, widths.fused
        self.fusion = Correction(*inputs) if correct else Fusion(*inputs, scores)
        self.selector = KeyFrameSelector(widths.reduced)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 RGB ``(N, 3, H, W)`` -> the network's input of the same shape, in its float type."""
        return (frames.to(self.mean.dtype) / 255 - self.mean) / self.std

    def lower(self, frames: Tensor) -> Tensor:
        """S_l: normalised ``(N, 3, H, W)`` -> F_l ``(N, C_l, h, w)``."""
        return self.backbone.lower(frames[..., 3:-4, 3:-4] if self.align_corners else frames)

    def higher(self, low: Tensor) -> Tensor:
        """S_h: F_l -> F_h ``(N, C_h, h, w)``."""
        return run_chain(self.higher_chain(), low)

    def higher_chain(self) -> list[Link]:
        """Return S_h as a chain that starts from F_l and ends with the head."""
        return [*self.backbone.higher_chain(), link(self.head.gather), self._mix]

    def _mix(self, maps: Tensor, low: Tensor) -> Tensor:
        """Run the head's convolution, and resize its result to F_l's size if the output stride differs."""
        high = self.head.bottleneck(maps)
        if high.shape[-2:] != low.shape[-2:]:
            high = F.interpolate(high, low.shape[-2:], mode="bilinear", align_corners=False)
        return self._beside(high, low)

    def _beside(self, moved: Tensor, low: Tensor) -> Tensor:
        """Return F_h, which ends with F_l where the classifier reads it."""
        return torch.cat((moved, low), 1) if self.refine else moved

    def classify(self, high: Tensor) -> Tensor:
        """The key frames' classifier: F_h -> scores ``(N, classes, fineness * h, fineness * w)``."""
        return self._fine(self.classifier(self.refine(high) if self.refine else high))

    def _fine(self, scores: Tensor) -> Tensor:
        scores = F.pixel_shuffle(scores, self.fineness)
        if self.smooth:
            scores = torch.cat((scores[:, :, :1], scores, scores[:, :, -1:]), 2)
            scores = (scores[:, :, :-2] + 2 * scores[:, :, 1:-1] + scores[:, :, 2:]) / 4
        return scores

    def reduce(self, low: Tensor) -> Reduced:
        """Compute the three reductions of F_l ``(N, C_l, h, w)`` by one convolution."""
        predict, adapt, select = self.reduction(low).chunk(3, 1)
        return Reduced(torch.relu(predict), self._beside(torch.relu(adapt), low), select)

    def anchor(self, key: Reduced) -> Anchor:
        """Compute the key frame's half of the fast track from its reduced F_l."""
        return Anchor(self.predictor.from_key(key.predict), key.select)

    def propagate(self, anchor: Anchor, key_high: Tensor, current: Reduced) -> Tensor:
        """Eq. 1: carry F_h of the key frame to the current frame; same shape as ``key_high``."""
        logits = self.predictor(anchor.predict, current.predict)
        return svconv2d(key_high, logits, kernel_size=self.predictor.kernel_size, padding_mode=self.padding_mode)

    def fuse(self, propagated: Tensor, current: Reduced) -> Fused:
        """AdaptNet and fusion (Section 3.3): propagated F_h and the frame's reduced F_l -> scores and carried F_h."""
        adapt, low = current.adapt.tensor_split((current.predict.shape[1],), 1)
        moved = propagated[:, : self.moved]
        fused = self.fusion(moved, self.adapt(adapt))
        if self.correct:
            # Half of a correction is carried on: it fades, where carried whole its errors add up (docs/design.md).
            return Fused(self.classify(self._beside(fused, low)), self._beside((moved + fused) / 2, low))
        return Fused(self._fine(fused), propagated)

    def deviation(self, anchor: Anchor, current: Reduced) -> Tensor:
        """Predicted share of pixels whose label changed since the key frame, ``(N,)`` in [0, 1] (Section 3.4)."""
        return self.selector(anchor.select, current.select)

    @staticmethod
    def difference(key_low: Tensor, low: Tensor) -> Tensor:
        """Return the difference of two frames' F_l, ``|b - a| / (|a| + |b|)`` over sums of the whole map: a scalar in
        [0, 1]. Sums are float32, since those of a whole map are out of float16's range."""
        before, after = key_low.float(), low.float()
        return (after - before).abs().sum() / (after.abs().sum() + before.abs().sum())

    def forward(self, frames: Tensor) -> Tensor:
        """Frame by frame: normalised ``(N, 3, H, W)`` -> scores ``(N, classes, fineness * h, fineness * w)``."""
        return self.classify(self.higher(self.lower(frames)))
