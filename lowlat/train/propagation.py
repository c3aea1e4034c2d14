"""Second stage: reduction, kernel predictor, AdaptNet and fusion, on pairs of frames, S_l and S_h frozen."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lowlat.data.pairs import ClipPairs, Features, Pairs, SimulatedPairs
from lowlat.networks.labels import full_size_labels
from lowlat.networks.layers import fold_batch_norms
from lowlat.networks.video_network import VideoNetwork
from lowlat.train.base import class_weights, remove_class_weights, segmentation_loss
from lowlat.train.batch import Share
from lowlat.train.loop import Mean, Recipe, fit

RECIPE = Recipe(steps=800, batch=8, learning_rate=1e-3)
CLIP_SHARE = 0.25  # of the steps, where there are clips
HOP_SHARE = 0.4  # of the steps: by way of a temporary key frame, as after a promotion


def frozen_features(network: VideoNetwork, device: str) -> Features:
    """The per-frame network as a function: float frames in [0, 255] -> (F_l, F_h, uint8 labels), on the CPU."""
    # A copy: what is trained from here on leaves it alone, and its batch norms can be folded.
    network = fold_batch_norms(copy.deepcopy(network))

    @torch.inference_mode()
    def features(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = frames.to(device, memory_format=torch.channels_last)
        low = network.lower(network.normalise(frames))
        high = network.higher(low)
        labels = full_size_labels(network.classify(high), frames.shape[-2:])
        return low.cpu(), high.cpu(), labels.cpu()

    return features


def fast_track(network: VideoNetwork, pairs: Pairs, device: str) -> Tensor:
    """Scores of the current frames by propagation and fusion; by way of the middle frames where there are any."""

    def look(frames: Tensor):
        with torch.no_grad():
            low = network.lower(network.normalise(frames.to(device, memory_format=torch.channels_last)))
        return network.reduce(low)

    anchor = network.anchor(network.reduce(pairs.low.to(device, memory_format=torch.channels_last)))
    high = pairs.high.to(device, memory_format=torch.channels_last)
    if pairs.middle is not None:
        middle = look(pairs.middle)
        high = network.propagate(anchor, high, middle)
        anchor = network.anchor(middle)
    current = look(pairs.current)
    return network.fuse(network.propagate(anchor, high, current), current)


def train_propagation(
    network: VideoNetwork,
    simulated: SimulatedPairs,
    clips: ClipPairs,
    folder,
    recipe: Recipe = RECIPE,
    device: str = "cpu",
    *,
    tensorboard: bool = False,
) -> None:
    """Train the fast track's modules in place; cross-entropy on the current frame's labels, void ignored."""
    modules = nn.ModuleList([network.reduction, network.predictor, network.adapt, network.fusion])
    network.eval()
    modules.train()
    weights = class_weights(simulated.labels, network.classes).to(device)

    def draw(share: Share) -> Pairs:
        from_clip = bool(clips) and torch.rand((), generator=share.step) < CLIP_SHARE
        hop = bool(torch.rand((), generator=share.step) < HOP_SHARE)
        source = clips if from_clip else simulated
        return share.collect(lambda generator: source.batch(1, generator, middle=hop))

    def loss(pairs: Pairs) -> Mean:
        return segmentation_loss(fast_track(network, pairs, device), pairs.labels.to(device), weights)

    groups = [{"params": list(modules.parameters())}]
    fit("propagation", modules, groups, draw, loss, recipe, folder, tensorboard=tensorboard)
    remove_class_weights(network.fusion.classifier, weights)
    network.eval()
