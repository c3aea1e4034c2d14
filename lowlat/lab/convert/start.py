"""Where the untrained fast track of a converted network starts: at the key frame's own scores, moved by nothing."""

from __future__ import annotations

import torch

from lowlat.networks.fast_track import Fusion
from lowlat.networks.video_network import VideoNetwork


@torch.no_grad()
def start_at_the_classifier(network: VideoNetwork) -> bool:
    """Have fusion give the scores that the key frames' classifier makes of the propagated F_h, whatever AdaptNet says.

    A fresh `Fusion` gives random scores. Here two of its channels a class hold ``relu(score)`` and ``relu(-score)``,
    and its classifier takes one from the other. The other channels keep their random weights, for training to use.

    Returns:
        whether fusion has the channels for it; it is left as it is where not.
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
