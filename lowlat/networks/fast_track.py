"""The modules of the fast track, which carry a key frame's features to the current frame (paper, Sections 3.2, 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.networks.layers import ConvBN
from svconv import correlation2d


class KernelPredictor(nn.Module):
    """Predicts a K x K kernel for every position from the reduced F_l of the key and of the current frame.

    The 3x3 convolution over the concatenated pair is held as two halves, ``conv([a; b]) = conv_a(a) + conv_b(b)``,
    so that the key frame's half is computed once a key frame.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.from_key = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.from_current = nn.Conv2d(channels, channels, 3, padding=1)
        self.to_logits = nn.Conv2d(channels, kernel_size**2, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        start_at_the_centre(self.to_logits)

    def forward(self, key_half: Tensor, current: Tensor) -> Tensor:
        """``from_key(key)`` and the reduced F_l^t, both ``(N, channels, h, w)`` -> logits ``(N, K*K, h, w)``."""
        return self.to_logits(torch.relu(key_half + self.from_current(current)))


class Descriptor(nn.Module):
    """Describes each position so that it can be recognised: a 1x1 convolution, then unit length over the channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.conv(x), dim=1)


class MatchingPredictor(nn.Module):
    """Predicts kernels by comparing the current frame's F_l with the key frame's at every tap.

    Two 3x3 convolutions see two positions away, so they can't find what has moved by four. Here every tap is compared
    (Dosovitskiy et al., "FlowNet", ICCV 2015, Section 3): the similarity is the tap's logit, to which a 3x3 convolution
    over all taps and the current F_l adds a correction.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.from_key = Descriptor(channels)
        self.describe = Descriptor(channels)
        self.from_current = nn.Conv2d(channels, channels, 3, padding=1)
        self.from_match = nn.Conv2d(kernel_size**2, channels, 3, padding=1, bias=False)
        self.to_logits = nn.Conv2d(channels, kernel_size**2, 1)
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start at the centre tap, with the same descriptor for both frames."""
        start_at_the_centre(self.to_logits)
        self.describe.load_state_dict(self.from_key.state_dict())
        self.log_scale.fill_(math.log(10.0))

    def forward(self, key: Tensor, current: Tensor) -> Tensor:
        """``from_key(key)`` and the reduced F_l^t, both ``(N, channels, h, w)`` -> logits ``(N, K*K, h, w)``."""
        match = correlation2d(self.describe(current), key, kernel_size=self.kernel_size)
        hidden = torch.relu(self.from_current(current) + self.from_match(match))
        return self.to_logits(hidden) + self.log_scale.exp() * match


def start_at_the_centre(to_logits: nn.Conv2d) -> None:
    """Let the centre tap start highest; otherwise the first kernels are nearly uniform, a K x K box blur."""
    to_logits.bias.zero_()
    to_logits.bias[len(to_logits.bias) // 2] = 5.0


class AdaptNet(nn.Module):
    """Two 3x3 convolutions on the reduced F_l of the current frame; the reduction is the first of the paper's three."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(ConvBN(channels, channels, 3), ConvBN(channels, channels, 3))

    def forward(self, current: Tensor) -> Tensor:
        return self.layers(current)


class Fusion(nn.Module):
    """3x3 convolution over concat(propagated F_h, adapted F_l), then a classifier of its own -> scores."""

    def __init__(self, propagated: int, adapted: int, channels: int, scores: int):
        super().__init__()
        self.mix = ConvBN(propagated + adapted, channels, 3)
        self.classifier = nn.Conv2d(channels, scores, 1)

    def forward(self, propagated: Tensor, adapted: Tensor) -> Tensor:
        return self.classifier(self.mix(torch.cat((propagated, adapted), 1)))


class Correction(nn.Module):
    """Fusion as a correction, at first zero, that is added to the propagated F_h for the key frames' classifier."""

    def __init__(self, propagated: int, adapted: int, channels: int):
        super().__init__()
        self.mix = ConvBN(propagated + adapted, channels, 3)
        self.to_high = nn.Conv2d(channels, propagated, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.to_high.weight.zero_()
        self.to_high.bias.zero_()

    def forward(self, propagated: Tensor, adapted: Tensor) -> Tensor:
        return propagated + self.to_high(self.mix(torch.cat((propagated, adapted), 1)))


class KeyFrameSelector(nn.Module):
    """Predicts the share of pixels whose label differs between two frames (paper, Section 3.4).

    The difference of both frames' reduced F_l goes through a 3x3 convolution, global average pooling, a fully connected
    layer and a sigmoid.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Predict 0.1 for every frame before training: far from it the sigmoid saturates and learns nothing."""
        self.fc.weight.zero_()
        self.fc.bias.fill_(math.log(0.1 / 0.9))

    def forward(self, key: Tensor, current: Tensor) -> Tensor:
        """Two ``(N, channels, h, w)`` -> deviation ``(N,)`` in [0, 1]."""
        features = torch.relu(self.conv(current - key)).mean((2, 3))
        return torch.sigmoid(self.fc(features)).squeeze(1)
