"""Pyramid pooling, the head that ends S_h (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.networks.layers import ConvBN


class PyramidPooling(nn.Module):
    """Average pools of 1, 2, 3 and 6 bins a side beside the map itself, then a 3x3 convolution.

    ``(N, channels_in, h, w)`` -> F_h ``(N, channels_out, h, w)``; ``conv5_4`` in the paper's names.
    """

    bins = (1, 2, 3, 6)

    def __init__(self, channels_in: int, channels_out: int, *, dilation: int = 1, align_corners: bool = False):
        super().__init__()
        self.align_corners = align_corners  # of the pools, brought to the map's size
        branch = channels_in // len(self.bins)
        self.branches = nn.ModuleList(ConvBN(channels_in, branch, 1) for _ in self.bins)
        self.bottleneck = ConvBN(channels_in + branch * len(self.bins), channels_out, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneck(self.gather(x))

    def gather(self, x: Tensor) -> Tensor:
        """Return the map and its pools side by side in the channels, as the 3x3 convolution reads them."""
        maps = [x]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            pooled = branch(F.adaptive_avg_pool2d(x, bins))
            maps.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=self.align_corners))
        return torch.cat(maps, 1)
