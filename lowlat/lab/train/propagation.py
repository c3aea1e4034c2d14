"""The stage ``propagation``: a method learns on pairs of frames, with S_l, S_h and their classifier frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from lowlat.lab.data.pairs import Features
from lowlat.lab.methods import Method
from lowlat.lab.train.bank import Bank, Batch, Fresh
from lowlat.lab.train.base import class_weights, remove_class_weights, segmentation_loss
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Mean, fit
from lowlat.lab.train.recipe import PRECISIONS, Recipe
from lowlat.networks.backbone import first_of
from lowlat.networks.labels import full_size_labels
from lowlat.networks.layers import fold_batch_norms
from lowlat.networks.video_network import VideoNetwork

HOP_SHARE = 0.75  # this share of the steps goes by way of a temporary key frame, as happens after a promotion


def frozen_features(network: VideoNetwork, device: str, precision: str = "float32") -> Features:
    """The per-frame network as a function from float frames in [0, 255] to (F_l, F_h, uint8 labels) on the CPU.

    Args:
        device: where the function computes; the network itself stays where it is.
        precision: as a recipe names it.
    """
    # The copy is not trained, and its batch norms can be folded.
    network = fold_batch_norms(copy.deepcopy(network).to(device))

    dtype, kind = PRECISIONS[precision], torch.device(device).type

    @torch.inference_mode()
    def features(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = frames.to(device, memory_format=torch.channels_last)
        with torch.autocast(kind, dtype) if dtype != torch.float32 else nullcontext():
            crossing = network.lower(network.normalise(frames))
            low, high = first_of(crossing), network.higher(crossing)
            scores = network.classify(high)
        labels = full_size_labels(scores.float(), frames.shape[-2:])
        return first_of(low).float().cpu(), high.float().cpu(), labels.cpu()

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
    bank: Bank | Fresh,
    folder: str | Path,
    recipe: Recipe,
    device: str = "cpu",
    *,
    fresh: bool = True,
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> None:
    """Train what ``method`` learns, in place; cross-entropy on the current frames' labels.

    A method that learns a classifier learns it under class weights, taken out at the end, where the recipe is balanced;
    one that is read by the key frames' classifier is trained without, since that one has none.

    Args:
        name: the run's name: ``<folder>/<name>.pt`` is its checkpoint.
        bank: where pairs come from; a balanced recipe counts the labels of a `Bank`.
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
    weights = None
    if fusion is not None and recipe.balanced and isinstance(bank, Bank):
        weights = class_weights(bank.labels, method.network.classes).to(device)

    def draw(share: Share) -> tuple[bool, Batch]:
        hop = bool(torch.rand((), generator=share.step) < HOP_SHARE)
        return hop, share.collect(lambda generator: bank.batch(1, generator, device))

    def loss(drawn: tuple[bool, Batch]) -> Mean:
        hop, batch = drawn
        return pairs_loss(method, batch, weights, hop=hop)

    groups = [{"params": list(learned.parameters()), "scale": method.learning_rate_scale}]
    fit(name, learned, groups, draw, loss, recipe, folder, starts_from=starts_from, tensorboard=tensorboard)
    if weights is not None:
        remove_class_weights(fusion.classifier, weights)
    method.eval().requires_grad_(True)


def pairs_loss(method: Method, batch: Batch, weights: Tensor | None, *, hop: bool) -> Mean:
    """The loss of one pass of a method on pairs."""
    return segmentation_loss(fast_track(method, batch, hop=hop), batch.labels, weights)
