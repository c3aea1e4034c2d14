"""First stage: the per-frame network, S_l and S_h with their classifier, on labelled images."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.data.augment import random_view
from lowlat.data.camvid import CamVid
from lowlat.models import build, load_imagenet_lite0
from lowlat.networks.video_network import VideoNetwork
from lowlat.train.loop import Recipe, fit

RECIPE = Recipe(steps=900, batch=8, learning_rate=5e-4, weight_decay=0.02)
# The first layers know edges and colours from ImageNet already; leaving them out takes a third off the time.
FROZEN = ("_conv_stem", "_bn0", "_blocks.0", "_blocks.1", "_blocks.2")


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights ``1 / log(1.05 + share)`` (after Paszke et al., "ENet"): rare classes count more, within bounds."""
    counts = torch.bincount(labels[labels < classes].long().flatten(), minlength=classes).float()
    weights = 1 / torch.log(1.05 + counts / counts.sum())
    return weights / weights.mean()


@torch.no_grad()
def remove_class_weights(classifier: nn.Conv2d, weights: Tensor) -> None:
    """Turn a classifier trained under class weights into one of plain probabilities, by its bias.

    Weighted cross-entropy learns ``weight * probability``; without this, rare classes are predicted too often.
    """
    classifier.bias -= weights.log()


def segmentation_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy that ignores void, at half the labels' size: ``(N, classes, h, w)``, int64 ``(N, H, W)``."""
    labels = labels[:, 1::2, 1::2]
    scores = F.interpolate(scores.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(scores, labels, weight=weights, ignore_index=scores.shape[1])


def freeze_first_layers(network: VideoNetwork) -> None:
    """Fix the parameters and statistics of ``FROZEN``."""
    for name in FROZEN:
        module = network.backbone.get_submodule(name)
        module.requires_grad_(False)
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eval()


def train_base(data: CamVid, folder: str | Path, recipe: Recipe = RECIPE, device: str = "cpu") -> VideoNetwork:
    """Train the per-frame ``lite`` network on labelled images, at output stride 16.

    Returns:
        the network; its modules of propagation and selection are still untrained.
    """
    network = build("lite", output_stride=16)
    load_imagenet_lite0(network)
    network.to(device, memory_format=torch.channels_last).train()
    freeze_first_layers(network)
    images, labels = data.load()
    weights = class_weights(labels, network.classes).to(device)

    def loss(generator: Generator) -> Tensor:
        chosen = torch.randint(len(images), (recipe.batch,), generator=generator)
        frames, targets = random_view(images[chosen], labels[chosen], generator)
        frames = network.normalise(frames.to(device, memory_format=torch.channels_last))
        return segmentation_loss(network(frames), targets.to(device), weights)

    modules = nn.ModuleList([network.backbone, network.head, network.classifier])
    heads = [*network.head.parameters(), *network.classifier.parameters()]
    groups = [
        {"params": [p for p in network.backbone.parameters() if p.requires_grad]},
        {"params": heads, "scale": 3.0},
    ]
    fit("base", modules, groups, loss, recipe, folder)
    remove_class_weights(network.classifier, weights)
    return network
