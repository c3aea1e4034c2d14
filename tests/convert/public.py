"""Public networks in plain PyTorch, written from their publications with the names that their checkpoints have:
ResNet-101 of torchvision and timm, PSPNet of mmsegmentation and of semseg."""

import math

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = (3, 4, 23, 3)
CONTRACTED = ((1, 1), (1, 1), (1, 2), (2, 4))
"""Dilation of the first block and of the others in each layer, as in torchvision and mmsegmentation."""
SET_BY_NAME = ((1, 1), (1, 1), (2, 2), (4, 4))
"""The dilations that semseg sets: it changes every 3x3 convolution of a layer after the network is built."""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Block(nn.Module):
    def __init__(self, before, width, stride, dilation, pool):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if before != 4 * width:
            layers = [nn.Conv2d(before, 4 * width, 1, stride=1 if pool else stride, bias=False)]
            layers.append(nn.BatchNorm2d(4 * width))
            if pool:
                layers.insert(0, nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
            self.downsample = nn.Sequential(*layers)

    def forward(self, x):
        identity = self.downsample(x) if hasattr(self, "downsample") else x
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + identity)


def add_layers(module, channels, dilations, pool=False):
    for index, (width, stride) in enumerate(((64, 1), (128, 2), (256, 1), (512, 1))):
        first, rest = dilations[index]
        blocks = []
        for block in range(BLOCKS[index]):
            blocks.append(Block(channels, width, 1 if block else stride, rest if block else first, pool))
            channels = 4 * width
        setattr(module, f"layer{index + 1}", nn.Sequential(*blocks))


def deep_stem(inner, channels):
    return [
        nn.Conv2d(3, inner, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


class ResNet(nn.Module):
    """torchvision's ResNet-101, timm's plain one, and mmsegmentation's: v1c with ``stem``, v1d with ``pool`` too."""

    def __init__(self, stem=None, pool=False, imagenet=False):
        super().__init__()
        if stem:
            self.stem = nn.Sequential(*deep_stem(*stem))
        else:
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
        add_layers(self, stem[1] if stem else 64, CONTRACTED, pool)
        if imagenet:
            self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = self.stem(x) if hasattr(self, "stem") else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ConvModule(nn.Module):
    def __init__(self, before, channels, kernel):
        super().__init__()
        self.conv = nn.Conv2d(before, channels, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class PSPHead(nn.Module):
    def __init__(self, classes, align_corners):
        super().__init__()
        self.align_corners = align_corners
        self.conv_seg = nn.Conv2d(512, classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), ConvModule(2048, 512, 1)) for bins in (1, 2, 3, 6)
        )
        self.bottleneck = ConvModule(2048 + 4 * 512, 512, 3)

    def forward(self, x):
        pools = [
            F.interpolate(module(x), x.shape[2:], mode="bilinear", align_corners=self.align_corners)
            for module in self.psp_modules
        ]
        return self.conv_seg(self.bottleneck(torch.cat([x, *pools], 1)))


class MMSegmentation(nn.Module):
    def __init__(self, classes=19, stem=(32, 64), pool=False, align_corners=False):
        super().__init__()
        self.backbone = ResNet(stem, pool)
        self.decode_head = PSPHead(classes, align_corners)
        self.auxiliary_head = nn.Module()
        self.auxiliary_head.conv_seg = nn.Conv2d(256, classes, 1)
        self.auxiliary_head.convs = nn.Sequential(ConvModule(1024, 256, 3))

    def forward(self, x):
        return self.decode_head(self.backbone(x))


class SemsegPPM(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins), nn.Conv2d(2048, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU()
            )
            for bins in (1, 2, 3, 6)
        )

    def forward(self, x):
        pools = [F.interpolate(part(x), x.shape[2:], mode="bilinear", align_corners=True) for part in self.features]
        return torch.cat([x, *pools], 1)


class SemsegResNet(nn.Module):
    """The network that semseg starts from: ImageNet's classifier on a deep stem of three named convolutions, here with
    the dilations that its PSPNet gives the layers."""

    def __init__(self):
        super().__init__()
        stem = deep_stem(64, 128)
        for index in (1, 2, 3):
            setattr(self, f"conv{index}", stem[3 * index - 3])
            setattr(self, f"bn{index}", stem[3 * index - 2])
        add_layers(self, 128, SET_BY_NAME)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        for conv, bn in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(bn(conv(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Semseg(nn.Module):
    """semseg's PSPNet, for images of sides 8 k + 1. It gives scores at the images' size, as its authors' code does."""

    def __init__(self, classes=11, plain=False):
        super().__init__()
        seven = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.layer0 = nn.Sequential(*(seven if plain else deep_stem(64, 128)), nn.MaxPool2d(3, stride=2, padding=1))
        add_layers(self, 64 if plain else 128, SET_BY_NAME)
        self.ppm = SemsegPPM()
        self.cls = nn.Sequential(
            nn.Conv2d(4096, 512, 3, padding=1, bias=False),
            nn.BatchNorm2d(512),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(512, classes, 1),
        )
        self.aux = nn.Sequential(
            nn.Conv2d(1024, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(256, classes, 1),
        )

    def scores(self, x):
        """Return scores at the features' size."""
        return self.cls(self.ppm(self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(x)))))))

    def forward(self, x):
        return F.interpolate(self.scores(x), x.shape[2:], mode="bilinear", align_corners=True)


def filled(make, **options):
    """Make the network that ``make`` makes, in eval mode, with the weights of :func:`fill`."""
    with torch.device("meta"):
        network = make(**options)
    return fill(network.to_empty(device="cpu").eval())


@torch.no_grad()
def fill(network):
    """Give a network random weights that keep activations near 1, and batch norms that change their input."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, 1 / math.sqrt(module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.fill_(7)
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network


def normalised(frames):
    """Normalise uint8 frames ``(N, 3, H, W)`` as mmsegmentation and semseg do, in the range 0 to 255."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (frames.float() - mean) / std
