"""Segmentation networks as their libraries build them, with random weights; and one with two branches, written here."""

import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lowlat

CLASSES = ["road", "pavement", "building", "tree", "car"]


class Entry(NamedTuple):
    """A network of the zoo: how it is built, where it is cut, and what is to be expected of that."""

    make: object
    split: str
    features: str
    size: tuple[int, int]
    tensors: int
    """How many cross the cut, as `lowlat.split_points` counts them."""
    low: tuple[int, int, int]
    high: tuple[int, int, int]


def torchvision_network(name):
    def make():
        from torchvision_library import torchvision

        return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5)

    return make


def smp_network(name):
    def make():
        import torchvision_library  # noqa: F401

        import segmentation_models_pytorch as smp  # isort: skip

        return getattr(smp, name)("resnet18", encoder_weights=None, classes=5)

    return make


def segformer():
    import torchvision_library  # noqa: F401
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_labels=5,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        decoder_hidden_size=16,
        num_attention_heads=[1, 2, 4, 4],
    )
    return SegformerForSemanticSegmentation(config)


class DinoHead(nn.Module):
    """DINOv2 with a linear head on the tokens of its positions, as its authors evaluate it."""

    def __init__(self):
        super().__init__()
        import torchvision_library  # noqa: F401
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
        )
        self.backbone = Dinov2Model(config)
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, frames):
        tokens = self.backbone(frames).last_hidden_state[:, 1:]
        height, width = (side // 14 for side in frames.shape[-2:])
        maps = tokens.transpose(1, 2).reshape(len(frames), -1, height, width)
        return F.interpolate(self.head(maps), frames.shape[-2:], mode="bilinear", align_corners=False)


def conv(channels_in, channels_out, stride=1, kernel=3):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Attention(nn.Module):
    """PIDNet's Pag: the detail branch takes over from the context branch what the two have in common."""

    def __init__(self, channels):
        super().__init__()
        self.of_detail, self.of_context = (nn.Conv2d(channels, channels // 2, 1, bias=False) for _ in range(2))

    def forward(self, detail, context):
        of_context = F.interpolate(self.of_context(context), detail.shape[2:], mode="bilinear", align_corners=False)
        likeness = torch.sigmoid((self.of_detail(detail) * of_context).sum(1, keepdim=True))
        context = F.interpolate(context, detail.shape[2:], mode="bilinear", align_corners=False)
        return (1 - likeness) * detail + likeness * context


class Pyramid(nn.Module):
    """PAPPM: average pools of several sizes, each upsampled to the map's own size."""

    def __init__(self, channels, out):
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(size, stride, padding), nn.Conv2d(channels, out, 1))
            for size, stride, padding in ((5, 2, 2), (9, 4, 4))
        )
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, out, 1))
        self.own = nn.Conv2d(channels, out, 1)

    def forward(self, x):
        pooled = [*(scale(x) for scale in self.scales), self.whole(x)]
        return self.own(x) + sum(
            F.interpolate(one, x.shape[2:], mode="bilinear", align_corners=False) for one in pooled
        )


class TwoBranches(nn.Module):
    """A detail branch at stride 8 and a context branch down to stride 32 that exchange features twice, like
    mmsegmentation's PIDNet without its boundary branch."""

    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Sequential(conv(3, channels, 2), conv(channels, channels, 2))
        self.shared = conv(channels, 2 * channels, 2)
        self.context = nn.ModuleList([conv(2 * channels, 4 * channels, 2), conv(4 * channels, 8 * channels, 2)])
        self.detail = nn.ModuleList([conv(2 * channels, 2 * channels), conv(2 * channels, 2 * channels)])
        self.compress = nn.ModuleList([conv(4 * channels, 2 * channels, kernel=1), conv(8 * channels, 2 * channels)])
        self.exchange = nn.ModuleList([Attention(2 * channels), Attention(2 * channels)])
        self.spp = Pyramid(8 * channels, 2 * channels)
        self.fuse = conv(2 * channels, 2 * channels)
        self.head = nn.Sequential(conv(2 * channels, 2 * channels), nn.Conv2d(2 * channels, 5, 1))

    def forward(self, x):
        size = x.shape[2:]
        x = self.shared(self.stem(x))
        context = detail = x
        for deeper, finer, compress, exchange in zip(
            self.context, self.detail, self.compress, self.exchange, strict=True
        ):
            context = deeper(context)
            detail = exchange(finer(detail), compress(context))
        context = F.interpolate(self.spp(context), detail.shape[2:], mode="bilinear", align_corners=False)
        scores = self.head(self.fuse(detail + context))
        # mmsegmentation upsamples by itself, corners aligned.
        return F.interpolate(scores, size, mode="bilinear", align_corners=True)


ZOO = {
    "deeplabv3_resnet50": Entry(
        torchvision_network("deeplabv3_resnet50"), "backbone.layer2.3", "classifier.3", (64, 96), 1,
        (512, 8, 12), (256, 8, 12),
    ),
    "fcn_resnet50": Entry(
        torchvision_network("fcn_resnet50"), "backbone.layer3.0", "classifier.2", (64, 96), 1,
        (1024, 8, 12), (512, 8, 12),
    ),
    # Its scores are a sum of two branches': what can be propagated are the scores.
    "lraspp_mobilenet_v3_large": Entry(
        torchvision_network("lraspp_mobilenet_v3_large"), "backbone.6", "classifier", (64, 96), 2,
        (40, 8, 12), (5, 8, 12),
    ),
    # Tokens at the cut, beside the map of the stage before; F_h is twice as fine as F_l.
    "segformer": Entry(
        segformer, "segformer.stages.1", "decode_head.activation", (64, 96), 2, (16, 8, 12), (16, 16, 24),
    ),
    "dinov2": Entry(
        DinoHead, "backbone.encoder.layer.0", "backbone.layernorm", (56, 84), 1, (32, 4, 6), (32, 4, 6),
    ),
    # F_h has the frame's own size: 16 channels, of which 4x4 positions are propagated as one.
    "unet": Entry(smp_network("Unet"), "encoder.layer2", "decoder", (64, 96), 3, (128, 8, 12), (256, 16, 24)),
    "fpn": Entry(smp_network("FPN"), "encoder.layer2", "decoder", (64, 96), 2, (128, 8, 12), (128, 16, 24)),
    # F_l twice as fine as F_h.
    "two branches": Entry(TwoBranches, "stem", "fuse", (64, 96), 1, (8, 16, 24), (16, 8, 12)),
    "two branches, within": Entry(
        TwoBranches, "exchange.0", "fuse", (64, 96), 2, (16, 8, 12), (16, 8, 12)
    ),
}  # fmt: skip
QUICK = ["dinov2", "fpn", "two branches, within"]
"""One of each kind, which takes little time to trace; the others are in `make check`."""


def build(name):
    """Build a model of the zoo, in eval mode, with batch norms that change their input."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ZOO[name].make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


class Adopted(NamedTuple):
    name: str
    entry: Entry
    model: nn.Module
    network: nn.Module


@cache
def adopted(name):
    """Build a model of the zoo and adopt it; its fusion changes features, and its scores tell frames apart."""
    entry, model = ZOO[name], build(name)
    example = torch.zeros(1, 3, *entry.size)
    network = lowlat.adopt(model, split=entry.split, features=entry.features, example=example, classes=CLASSES)
    nn.init.normal_(network.fusion.to_high.weight, std=0.05)
    nn.init.normal_(network.selector.fc.weight)
    return Adopted(name, entry, model, network)


def whole(model, frames):
    """Return the model's own scores."""
    with torch.no_grad():
        found = model(frames)
    return found if isinstance(found, torch.Tensor) else found["out"] if "out" in found else found["logits"]


def frames(size, count=6, seed=0):
    """Return frames of a texture that moves by a few pixels from one to the next."""
    random = np.random.default_rng(seed)
    texture = random.integers(0, 256, (size[0] // 4 + 8, size[1] // 4 + 8, 3), np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    return [np.ascontiguousarray(texture[2 * i : 2 * i + size[0], 3 * i : 3 * i + size[1]]) for i in range(count)]
