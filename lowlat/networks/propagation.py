"""The fast track's modules: what carries a key frame's features to the current frame (paper, Sections 3.2 and 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lowlat.networks.layers import ConvBN


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
        """Start at the centre tap: else the first kernels are nearly uniform, a K x K box blur."""
        bias = self.to_logits.bias
        bias.zero_()
        bias[len(bias) // 2] = 5.0

    def forward(self, key_half: Tensor, current: Tensor) -> Tensor:
        """``from_key(key)`` and the reduced F_l^t, both ``(N, channels, h, w)`` -> logits ``(N, K*K, h, w)``."""
        return self.to_logits(torch.relu(key_half + self.from_current(current)))


class AdaptNet(nn.Module):
    """Two 3x3 convolutions on the reduced F_l of the current frame; the reduction is the first of the paper's three."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(ConvBN(channels, channels, 3), ConvBN(channels, channels, 3))

    def forward(self, current: Tensor) -> Tensor:
        return self.layers(current)


class Fusion(nn.Module):
    """3x3 convolution over concat(propagated F_h, adapted F_l), then a classifier of its own."""

    def __init__(self, propagated: int, adapted: int, channels: int, scores: int):
        super().__init__()
        self.mix = ConvBN(propagated + adapted, channels, 3)
        self.classifier = nn.Conv2d(channels, scores, 1)

    def forward(self, propagated: Tensor, adapted: Tensor) -> Tensor:
        return self.classifier(self.mix(torch.cat((propagated, adapted), 1)))


class KeyFrameSelector(nn.Module):
    """Predicts the share of pixels whose label differs between two frames (paper, Section 3.4).

    Difference of the reduced F_l of both frames, 3x3 convolution, global average pooling, fully connected, sigmoid.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, 1)
        # Every frame starts at a deviation of 0.1: away from it, the sigmoid saturates and stops learning.
        nn.init.zeros_(self.fc.weight)
        nn.init.constant_(self.fc.bias, math.log(0.1 / 0.9))

    def forward(self, key: Tensor, current: Tensor) -> Tensor:
        """Two ``(N, channels, h, w)`` -> deviation ``(N,)`` in [0, 1]."""
        features = torch.relu(self.conv(current - key)).mean((2, 3))
        return torch.sigmoid(self.fc(features)).squeeze(1)
