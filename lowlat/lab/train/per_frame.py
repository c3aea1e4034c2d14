"""The stages ``base`` and ``finetune``: the per-frame network, S_l, S_h and their classifier, on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.lab.data.augment import paste, random_view
from lowlat.lab.data.dataset import (
    SAMPLED,
    LabelledImages,
    class_counts,
    label_sample,
    labelled_indices,
    rare_classes,
    spread,
)
from lowlat.lab.metrics import Confusion
from lowlat.lab.notices import notice
from lowlat.lab.train import processes
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Best, Mean, fit
from lowlat.lab.train.recipe import Recipe
from lowlat.lab.train.recompute import scores_of
from lowlat.lab.weights import BETWEEN_KEY_FRAMES
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.stages import resized, working_size


def class_weights(labels: Iterable[Tensor], classes: int) -> Tensor:
    """Weights ``1 / log(1.05 + share)`` (after Paszke et al., "ENet"): rare classes count more, within bounds.

    Args:
        labels: label maps of integers, or one tensor of several.

    Raises:
        ValueError: no pixel has a class, so that there is nothing to learn.
    """
    counts = class_counts(labels, classes)
    if not counts.any():
        raise _all_void(classes)
    weights = 1 / torch.log(1.05 + counts / counts.sum())
    return weights / weights.mean()


def check_labels(data: LabelledImages) -> None:
    """Look at a few label maps of a set, and tell the user of values in them that no class has: they count as void, as
    255 and the number of classes do, which are values for void.

    Raises:
        ValueError: no pixel of the whole set has a class.
    """
    classes, indices = len(data.classes), labelled_indices(data)
    values = torch.cat([data.label(index).unique() for index in spread(indices, SAMPLED)]).unique()
    if odd := [str(value) for value in values.tolist() if classes < value < 255]:
        notice(
            f"train: labels of the list {data.split!r} hold the values {', '.join(odd[:6])}{', ...' * (len(odd) > 6)}, "
            f"which no class of 0 to {classes - 1} has; such pixels count as void"
        )
    if not (values < classes).any() and not any((data.label(index) < classes).any() for index in indices):
        raise _all_void(classes)


def _all_void(classes: int) -> ValueError:
    return ValueError(
        f"train: expected labels of {classes} classes, 0 to {classes - 1}, got void in every pixel; number the "
        "classes from 0, as classes.csv names them"
    )


@torch.no_grad()
def remove_class_weights(classifier: nn.Conv2d, weights: Tensor) -> None:
    """Turn a classifier trained under class weights into one of plain probabilities, by its bias.

    Weighted cross-entropy learns ``weight * probability``; without this, rare classes are predicted too often.
    """
    # A classifier whose scores are finer than its input has several biases for each class, side by side.
    classifier.bias -= weights.log().repeat_interleave(len(classifier.bias) // len(weights))


def lovasz_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the convex extension of 1 - IoU, the mean over the classes that there are (Berman et al., "The
    Lovász-Softmax Loss", CVPR 2018, Algorithm 1 and Equation 11).

    Args:
        probabilities: ``(P, classes)``, of pixels.
        labels: int64 ``(P,)``; void is ``classes`` or more.

    Returns:
        a scalar; 0 without a pixel that has a class.
    """
    classes = probabilities.shape[1]
    truth = F.one_hot(labels.clamp(max=classes), classes + 1)[:, :classes].to(probabilities.dtype)
    # Void pixels have no error: they are sorted behind all that count.
    errors, order = ((truth - probabilities).abs() * (labels < classes)[:, None]).sort(0, descending=True)
    right = truth.gather(0, order)
    count = truth.sum(0)
    jaccard = 1 - (count - right.cumsum(0)) / (count + (1 - right).cumsum(0))
    losses = (errors * torch.diff(jaccard, dim=0, prepend=torch.zeros_like(jaccard[:1]))).sum(0)
    return (losses * (count > 0)).sum() / (count > 0).sum().clamp(min=1)


def segmentation_loss(scores: Tensor, labels: Tensor, weights: Tensor | None, overlap: float = 0.0) -> Mean:
    """Cross-entropy, the mean over every second pixel of every second row, void ones left out; and ``overlap`` times
    `lovasz_loss` over every fourth, of the probabilities that the scores stand for without ``weights``.

    Args:
        scores: ``(N, classes, h, w)``.
        labels: int64 ``(N, H, W)``; void is ``classes`` or more.
        weights: ``(classes,)``, how much a pixel of each class counts; None for 1 each.
    """
    # Scores are interpolated at full size first: at half the labels' size they would lie half a pixel off.
    scores = F.interpolate(scores.float(), labels.shape[-2:], mode="bilinear", align_corners=False)[..., 1::2, 1::2]
    labels = labels[:, 1::2, 1::2].clamp(max=scores.shape[1])
    weights = scores.new_ones(scores.shape[1]) if weights is None else weights
    total = F.cross_entropy(scores, labels, weight=weights, ignore_index=scores.shape[1], reduction="sum")
    # The sums are divided by an image's pixels, to a size at which half precision neither overflows nor vanishes.
    pixels = labels.shape[-2] * labels.shape[-1]
    total, weight = total / pixels, F.pad(weights, (0, 1))[labels].sum() / pixels
    if overlap:
        scores, labels = scores[..., ::2, ::2], labels[:, ::2, ::2]
        plain = (scores - weights.log().view(-1, 1, 1)).softmax(1)
        total = total + overlap * weight * lovasz_loss(plain.movedim(1, -1).flatten(0, 2), labels.flatten())
    return Mean(total, weight)


def check_examples(name: str, recipe: Recipe) -> None:
    """``ValueError`` for passes of one example in the stage ``name``."""
    if recipe.batch // recipe.accumulate < 2:
        # The pyramid's batch norm of one bin has one value a channel and an example.
        raise ValueError(
            f"train: expected at least 2 examples a pass in {name!r}, got a batch of {recipe.batch} in "
            f"{recipe.accumulate} passes; raise the batch, or divide it less"
        )


def per_frame_modules(network: VideoNetwork) -> nn.ModuleDict:
    """Return the modules that the per-frame network is made of: all but the fast track's."""
    return nn.ModuleDict({name: child for name, child in network.named_children() if name not in BETWEEN_KEY_FRAMES})


def train_mode(network: VideoNetwork, frozen: Iterable[str] = ()) -> None:
    """Put a network in training mode, with the parameters and statistics of the modules called ``frozen`` fixed."""
    network.train()
    for name in frozen:
        module = network.get_submodule(name)
        module.requires_grad_(False)
        module.eval()


def parameter_groups(network: VideoNetwork, recipe: Recipe) -> list[dict]:
    """Return the trained parameters of a per-frame network in training mode: those of its backbone at the recipe's
    rate, the layers around and added to it, which start untrained, at ``head_rate`` times that. Biases and norms don't
    decay."""
    added = tuple(f"backbone.{name}" for name in getattr(getattr(network, "backbone", None), "added", ()))
    groups: dict[tuple[bool, bool], list] = {}
    for name, parameter in per_frame_modules(network).named_parameters():
        if parameter.requires_grad:
            taught = name.startswith("backbone.") and not name.startswith(added)
            groups.setdefault((taught, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            **({} if taught else {"scale": recipe.head_rate}),
            **({} if decays else {"weight_decay": 0.0}),
        }
        for (taught, decays), parameters in groups.items()
    ]


def view_size(network: VideoNetwork, shape: tuple[int, int], crop: int | None) -> tuple[int, int]:
    """Height and width of what is trained on: the working size of a frame of ``shape``, cut to ``crop`` a side."""
    seen = working_size(*shape, network.pixels, network.multiple)
    return seen if crop is None else (min(crop, seen[0]), min(crop, seen[1]))


def mean_iou(network: VideoNetwork, data: LabelledImages, weights: Tensor) -> float:
    """Mean IoU in percent, frame by frame at the working size on a held-out set; each process looks at its share.

    Args:
        weights: the class weights that the network is trained under, ``(classes,)``; they are taken out of its scores.
    """
    device = weights.device
    confusion = Confusion(network.classes)
    for index in range(processes.rank(), len(data), processes.world()):
        if data.labelled(index):
            label = data.label(index)
            frame = data.image(index)[None]
            frame = resized(frame, working_size(*frame.shape[-2:], network.pixels, network.multiple))
            frame = frame.to(device, memory_format=torch.channels_last)
            scores = network(network.normalise(frame)).float() - weights.log().view(-1, 1, 1)
            confusion.add(full_size_labels(scores, label.shape)[0].cpu(), label)
    confusion.counts = processes.add(confusion.counts.to(device)).cpu()
    return confusion.miou


def train_per_frame(
    name: str,
    network: VideoNetwork,
    data: LabelledImages,
    folder: str | Path,
    recipe: Recipe,
    device: str = "cpu",
    *,
    held_out: LabelledImages | None = None,
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> Best | None:
    """Train a per-frame network in place on labelled images of any sizes; its fast track and selector are left alone.

    An image is scaled to its working size times a random factor, its aspect kept, and a random crop of it is taken: as
    large as the working size of the set's first labelled image, or as ``recipe.crop`` says.

    Args:
        name: the run's name: ``<folder>/<name>.pt`` is its checkpoint.
        network: a network as it starts.
        held_out: labelled images whose mIoU decides which weights are kept.
        starts_from: see `fit`.

    Returns:
        the best validation.

    Raises:
        ValueError: nothing is labelled, passes of one example, or what `fit` refuses.
    """
    labelled = labelled_indices(data)
    check_examples(name, recipe)
    network.to(device, memory_format=torch.channels_last)
    train_mode(network, recipe.frozen)
    weights = class_weights(label_sample(data), network.classes) if recipe.balanced else torch.ones(network.classes)
    weights = weights.to(device)
    size = view_size(network, tuple(data.image(labelled[0]).shape[-2:]), recipe.crop)

    rare = rare_classes(data) if recipe.pasted else None

    def view(generator: Generator) -> tuple[Tensor, Tensor]:
        index = labelled[int(torch.randint(len(labelled), (), generator=generator))]
        image = data.image(index)[None]
        seen = working_size(*image.shape[-2:], network.pixels, network.multiple)
        options = {"void": network.classes, "size": size, "seen": seen, "degraded": recipe.degraded}
        return random_view(image, data.label(index)[None], generator, recipe.scales, **options)

    def one(generator: Generator) -> tuple[Tensor, Tensor]:
        drawn = view(generator)
        if recipe.pasted and torch.rand((), generator=generator) < recipe.pasted:
            paste(drawn, view(generator), rare, generator)
        return drawn

    def draw(share: Share) -> tuple[Tensor, Tensor]:
        return share.collect(one)

    def loss(batch: tuple[Tensor, Tensor]) -> Mean:
        frames, targets = batch
        return per_frame_loss(network, frames.to(device), targets.to(device), weights, recipe)

    def validate() -> float:
        network.eval()
        figure = mean_iou(network, held_out, weights)
        train_mode(network, recipe.frozen)
        return figure

    best = fit(
        name,
        per_frame_modules(network),
        parameter_groups(network, recipe),
        draw,
        loss,
        recipe,
        folder,
        validate=validate if held_out is not None else None,
        starts_from=starts_from,
        tensorboard=tensorboard,
    )
    if recipe.balanced:
        remove_class_weights(network.classifier, weights)
    return best


def per_frame_loss(
    network: VideoNetwork, frames: Tensor, labels: Tensor, weights: Tensor | None, recipe: Recipe
) -> Mean:
    """Return the loss of one pass of a per-frame network: frames ``(N, 3, H, W)`` in [0, 255], labels int64 ``(N, H,
    W)``."""
    frames = network.normalise(frames.contiguous(memory_format=torch.channels_last))
    scores = scores_of(network, frames, recompute=recipe.recompute)
    return segmentation_loss(scores, labels, weights, recipe.overlap)
