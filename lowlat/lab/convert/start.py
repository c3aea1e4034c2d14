"""The start of a converted network's untrained fast track: features stay in their place and give the key frame's own
scores."""

from __future__ import annotations

import torch

from lowlat.networks.fast_track import Fusion
from lowlat.networks.video_network import VideoNetwork


@torch.no_grad()
def start_at_the_classifier(network: VideoNetwork) -> bool:
    """Have fusion give the scores that the key frames' classifier gives for the propagated F_h, whatever AdaptNet
    computes.

    A fresh `Fusion` gives random scores. Here two of its channels for each class hold ``relu(score)`` and
    ``relu(-score)``, and its classifier subtracts the second from the first. The other channels keep their random
    weights, which training can use.

    Returns:
        Whether fusion has enough channels for that; if not, it is left as it is.
    """
    fusion = network.fusion
    scores, high = network.classifier.weight.shape[:2]
    if not isinstance(fusion, Fusion) or fusion.classifier.in_channels < 2 * scores:
        return False
    conv, norm = fusion.mix.conv, fusion.mix.bn
    weight, centre = network.classifier.weight[..., 0, 0], conv.kernel_size[0] // 2
    for sign, channels in ((1, slice(0, scores)), (-1, slice(scores, 2 * scores))):
        conv.weight[channels] = 0
        conv.weight[channels, :high, centre, centre] = sign * weight
        norm.bias[channels] = sign * network.classifier.bias
    # With the mean and variance of a fresh norm, its output is its input.
    norm.weight[: 2 * scores] = (1 + norm.eps) ** 0.5
    fusion.classifier.weight.zero_()
    fusion.classifier.weight[:, :scores, 0, 0] = torch.eye(scores)
    fusion.classifier.weight[:, scores : 2 * scores, 0, 0] = -torch.eye(scores)
    fusion.classifier.bias.zero_()
    return True
