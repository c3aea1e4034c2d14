"""The stage ``propagation``: a method learns on pairs of frames, with S_l, S_h and their classifier frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.pairs import Features
from lowlat.lab.methods import Method
from lowlat.lab.train.bank import Bank, Batch, Fresh
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Mean, fit
from lowlat.lab.train.per_frame import class_weights, remove_class_weights, segmentation_loss
from lowlat.lab.train.recipe import PRECISIONS, Recipe
from lowlat.networks.backbone import first_of
from lowlat.networks.labels import full_size_labels
from lowlat.networks.layers import fold_batch_norms
from lowlat.networks.video_network import VideoNetwork

HOP_SHARE = 0.75  # this share of the steps goes by way of frames between, as happens after a promotion or a rebase


def frozen_features(network: VideoNetwork, device: str, precision: str = "float32") -> Features:
    """Return the per-frame network as a function from float frames in [0, 255] to (F_l, F_h, uint8 labels) on the CPU.

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


def route(between: int, generator: Generator) -> list[int]:
    """Return the places among the later frames, the current one the last of them, that features are carried to in turn:
    the last alone, or by way of some before it, any some as often as any other."""
    stops = 0
    if between and torch.rand((), generator=generator) < HOP_SHARE:
        stops = int(torch.randint(1, 2**between, (), generator=generator))
    return [*(place for place in range(between) if stops >> place & 1), between]


def fast_track(method: Method, batch: Batch, places: Sequence[int]) -> Iterator[Tensor]:
    """Scores of the later frames at ``places``, features carried from each to the next one."""
    state = method.begin(batch.key, batch.high)
    for place in places:
        scores, high = method.carry(state, batch.later[place])
        yield scores
        if place != places[-1]:
            state = method.begin(batch.later[place], high)


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
    """Train what ``method`` learns, in place: cross-entropy on the current frames' labels, and where the bank has the
    per-frame network's scores the divergence from them on every frame that features are carried to.

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

    def draw(share: Share) -> tuple[list[int], Batch]:
        return route(bank.between, share.step), share.collect(lambda generator: bank.batch(1, generator, device))

    def loss(drawn: tuple[list[int], Batch]) -> Mean:
        places, batch = drawn
        return pairs_loss(method, batch, weights, places, recipe.soft)

    groups = [{"params": list(learned.parameters()), "scale": method.learning_rate_scale}]
    fit(name, learned, groups, draw, loss, recipe, folder, starts_from=starts_from, tensorboard=tensorboard)
    if weights is not None:
        remove_class_weights(fusion.classifier, weights)
    method.eval().requires_grad_(True)


def pairs_loss(method: Method, batch: Batch, weights: Tensor | None, places: Sequence[int], soft: float = 0.0) -> Mean:
    """Return the loss of one pass of a method on pairs: that of the labels, and ``soft`` times the divergence from the
    per-frame network's probabilities, its mean over the frames that features are carried to."""
    taught = torch.zeros((), device=batch.high.device)
    for place, scores in zip(places, fast_track(method, batch, places), strict=True):
        if batch.scores is not None:
            taught = taught + divergence(scores, batch.scores[:, place])
    labels = segmentation_loss(scores, batch.labels, weights)
    return Mean(labels.total + soft * taught.sum() / len(places), labels.weight)


def divergence(scores: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the fast track's scores from the per-frame network's ``taught``, ``(N,)``, each a
    mean over positions.

    Args:
        scores, taught: ``(N, classes, h, w)``, of any two sizes.
        temperature: divides both.
    """
    scores = F.interpolate(scores.float(), taught.shape[-2:], mode="bilinear", align_corners=False)
    logs, aims = (F.log_softmax(given / temperature, 1) for given in (scores, taught.float()))
    # The factor T^2 makes the size of gradients nearly independent of the temperature.
    return F.kl_div(logs, aims, log_target=True, reduction="none").sum(1).mean((1, 2)) * temperature**2
