"""The third stage of training: a method learns on pairs of frames, with S_l, S_h and their classifier frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lowlat import models
from lowlat.lab.data.pairs import Features
from lowlat.lab.methods import Method
from lowlat.lab.train.bank import Bank, Batch
from lowlat.lab.train.base import class_weights, remove_class_weights, segmentation_loss
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Mean, Recipe, fit
from lowlat.networks.labels import full_size_labels
from lowlat.networks.layers import fold_batch_norms
from lowlat.networks.video_network import VideoNetwork

RECIPE = Recipe(steps=300, batch=8, learning_rate=1e-3)
HOP_SHARE = 0.75  # this share of the steps goes by way of a temporary key frame, as happens after a promotion


def load_base(path: str | Path, classes: int, device: str) -> VideoNetwork:
    """Load the trained per-frame network that later stages go on with; ``ValueError`` if it has other classes."""
    network = models.load(path)
    if network.classes != classes:
        raise ValueError(
            f"train: expected a network of the data's {classes} classes in {path}, "
            f"got one of {network.classes}; train the stage base first"
        )
    return network.to(device, memory_format=torch.channels_last)


def frozen_features(network: VideoNetwork, device: str) -> Features:
    """The per-frame network as a function from float frames in [0, 255] to (F_l, F_h, uint8 labels) on the CPU.

    Args:
        device: where the function computes; the network itself stays where it is.
    """
    # The copy is not trained, and its batch norms can be folded.
    network = fold_batch_norms(copy.deepcopy(network).to(device))

    @torch.inference_mode()
    def features(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = frames.to(device, memory_format=torch.channels_last)
        low = network.lower(network.normalise(frames))
        high = network.higher(low)
        labels = full_size_labels(network.classify(high), frames.shape[-2:])
        return low.cpu(), high.cpu(), labels.cpu()

    return features


def fast_track(method: Method, batch: Batch, *, hop: bool) -> Tensor:
    """Scores of the current frames; with ``hop`` by way of the middle frames as temporary key frames."""
    state = method.begin(batch.key, batch.high)
    if hop:
        _, high = method.carry(state, batch.middle)
        state = method.begin(batch.middle, high)
    scores, _ = method.carry(state, batch.current)
    return scores


def train_propagation(
    name: str,
    method: Method,
    bank: Bank,
    folder: str | Path,
    recipe: Recipe = RECIPE,
    device: str = "cpu",
    *,
    fresh: bool = True,
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> None:
    """Train what ``method`` learns, in place; cross-entropy on the current frames' labels.

    A method that learns a classifier learns it under class weights, taken out at the end; one that is read by the
    key frames' classifier is trained without, since that one has none.

    Args:
        name: the run's name: ``<folder>/<name>.pt`` is its checkpoint.
        fresh: whether to start from fresh parameters rather than from those it has.
        starts_from: see `fit`.
    """
    torch.manual_seed(recipe.seed)
    if fresh:
        method.reset()
    learned = method.learned
    method.eval().requires_grad_(False)
    learned.train().requires_grad_(True)
    fusion = learned["fusion"] if "fusion" in learned and not method.network.correct else None
    weights = None if fusion is None else class_weights(bank.labels, method.network.classes).to(device)

    def draw(share: Share) -> tuple[bool, Batch]:
        hop = bool(torch.rand((), generator=share.step) < HOP_SHARE)
        return hop, share.collect(lambda generator: bank.batch(1, generator, device))

    def loss(drawn: tuple[bool, Batch]) -> Mean:
        hop, batch = drawn
        return segmentation_loss(fast_track(method, batch, hop=hop), batch.labels, weights)

    groups = [{"params": list(learned.parameters()), "scale": method.learning_rate_scale}]
    fit(name, learned, groups, draw, loss, recipe, folder, starts_from=starts_from, tensorboard=tensorboard)
    if fusion is not None:
        remove_class_weights(fusion.classifier, weights)
    method.eval().requires_grad_(True)
