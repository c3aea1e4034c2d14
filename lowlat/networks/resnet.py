"""Dilated ResNet-101: the paper's backbone, with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.networks.backbone import Backbone, Step


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut (He et al., 2016), the stride on the 3x3 as torchvision has it."""

    expansion = 4
    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int):
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = Shortcut(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Shortcut(nn.Sequential):
    """The projecting shortcut, ``downsample.0`` and ``downsample.1`` in torchvision's names."""

    folds = (("0", "1"),)


class ResNet101(Backbone):
    """ResNet-101 at output stride 8, split after ``layer3.2`` (the paper's ``conv4_3``, 1024 channels)."""

    folds = (("conv1", "bn1"),)
    unused = ("fc.",)
    blocks = (3, 4, 23, 3)

    def __init__(self, split: str = "layer3.2"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels = {"stem": 64}
        channels_in, dilation = 64, 1
        layers = zip(self.blocks, (1, 2, 1, 1), (1, 1, 2, 2), strict=True)
        for index, (blocks, stride, dilate) in enumerate(layers, start=1):
            width = 32 * 2**index
            layer = nn.ModuleList()
            for block in range(blocks):
                # The first block of a dilated layer still has the dilation of the layer before it, as in torchvision.
                layer.append(Bottleneck(channels_in, width, stride if block == 0 else 1, dilation))
                if block == 0:
                    dilation *= dilate
                channels_in = width * Bottleneck.expansion
                self.channels[f"layer{index}.{block}"] = channels_in
            self.add_module(f"layer{index}", layer)
        self.set_split(split)

    def stem(self, x: Tensor) -> Tensor:
        """7x7 convolution and max pooling, to stride 4."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)

    def steps(self) -> Iterator[tuple[str, Step]]:
        yield "stem", self.stem
        for index in range(1, 5):
            for block, module in enumerate(getattr(self, f"layer{index}")):
                yield f"layer{index}.{block}", module
