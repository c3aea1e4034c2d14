"""Dilated ResNet-101: the paper's backbone, with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.networks.backbone import Backbone, Step


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut (He et al., 2016); the 3x3 has the stride, as in torchvision."""

    expansion = 4
    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int, *, pool: bool = False):
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
                *([nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)] if pool else []),
                nn.Conv2d(channels_in, channels_out, 1, 1 if pool else stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Shortcut(nn.Sequential):
    """The projecting shortcut: ``downsample.0`` and ``.1`` in torchvision's names, ``.1`` and ``.2`` behind a pool."""

    folds = (("0", "1"), ("1", "2"))


class DeepStem(nn.Sequential):
    """Three 3x3 convolutions in place of the 7x7, each with its norm."""

    folds = (("0", "1"), ("3", "4"), ("6", "7"))

    def __init__(self, inner: int, channels: int):
        layers: list[nn.Module] = []
        for channels_in, channels_out, stride in ((3, inner, 2), (inner, inner, 1), (inner, channels, 1)):
            convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
        # The backbone applies the last ReLU.
        super().__init__(*layers[:-1])


class ResNet101(Backbone):
    """ResNet-101 at output stride 8, split after ``layer3.2`` (the paper's ``conv4_3``, 1024 channels).

    Args:
        split: the last step of S_l.
        deep_stem: channels of the first two and of the last of the stem's three 3x3 convolutions; None for the 7x7.
        pool: whether a shortcut of stride 2 averages before its convolution, as in the variant "v1d".
        contract: whether a dilated layer's first block has the dilation of the layer before it, as in torchvision.
    """

    folds = (("conv1", "bn1"),)
    unused = ("fc.",)
    blocks = (3, 4, 23, 3)

    def __init__(
        self,
        split: str = "layer3.2",
        *,
        deep_stem: Sequence[int] | None = None,
        pool: bool = False,
        contract: bool = True,
    ):
        super().__init__()
        channels_in = 64 if deep_stem is None else deep_stem[1]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False) if deep_stem is None else DeepStem(*deep_stem)
        self.bn1 = nn.BatchNorm2d(64) if deep_stem is None else nn.Identity()
        self.channels = {"stem": channels_in}
        before = 1
        layers = zip(self.blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        for index, (blocks, stride, dilation) in enumerate(layers, start=1):
            width = 32 * 2**index
            layer = nn.ModuleList()
            for block in range(blocks):
                first = block == 0
                dilate = before if first and contract else dilation
                layer.append(Bottleneck(channels_in, width, stride if first else 1, dilate, pool=pool))
                channels_in = width * Bottleneck.expansion
                self.channels[f"layer{index}.{block}"] = channels_in
            before = dilation
            self.add_module(f"layer{index}", layer)
        self.set_split(split)

    def stem(self, x: Tensor) -> Tensor:
        """The first step: a 7x7 convolution, or three of 3x3, and max pooling, to stride 4."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)

    def steps(self) -> Iterator[tuple[str, Step]]:
        yield "stem", self.stem
        for index in range(1, 5):
            for block, module in enumerate(getattr(self, f"layer{index}")):
                yield f"layer{index}.{block}", module
