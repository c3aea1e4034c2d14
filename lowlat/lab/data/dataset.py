"""The interface of every set of labelled images, for training and evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from lowlat.classes import Classes
from lowlat.networks.video_network import VideoNetwork

T = TypeVar("T")
Palette = tuple[tuple[int, int, int], ...]
"""One RGB colour a class."""
SAMPLED = 8  # images, with their labels, whose content a digest covers
COUNTED = 500  # about as many label maps are read to count a set's classes


class LabelledImages(Protocol):
    """A list of images with label maps. A data set subclasses it and so inherits ``labelled`` and ``content``.

    Attributes:
        split: the name of the list: ``"train"``, ``"val"``, ``"test"``.
        classes: names; a label value of ``len(classes)`` or more is void.
        palette: their colours.
        videos: ranges of indices whose frames follow each other; empty for still images.
    """

    split: str
    classes: tuple[str, ...]
    palette: Palette
    videos: list[range]

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """Return an image, RGB, uint8 ``(3, H, W)``."""
        ...

    def label(self, index: int) -> Tensor | None:
        """Return class indices, uint8 ``(H, W)``; None for a frame without labels."""
        ...

    def labelled(self, index: int) -> bool:
        """Whether there is a label map, which is told without reading it."""
        return True

    def content(self, index: int) -> bytes:
        """Return bytes that differ between labelled images with different pixels or labels."""
        return b"".join(
            repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes()
            for tensor in (self.image(index), self.label(index))
        )


def labelled_indices(data: LabelledImages) -> list[int]:
    """Return the indices of the images that have a label map.

    Raises:
        ValueError: no image has one.
    """
    indices = [index for index in range(len(data)) if data.labelled(index)]
    if not indices:
        raise ValueError(
            f"labelled_indices: expected labelled images in the list {data.split!r} of {type(data).__name__}, "
            f"got none among {len(data)}; give a set that has labels there"
        )
    return indices


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` of the items, evenly spread."""
    count = min(most, len(items))
    return [items[step * len(items) // count] for step in range(count)]


def label_sample(data: LabelledImages) -> Iterator[Tensor]:
    """Yield label maps spread evenly over a set, enough to count its classes."""
    labelled = labelled_indices(data)
    for index in labelled[:: max(1, len(labelled) // COUNTED)]:
        yield data.label(index)


def class_counts(labels: Iterable[Tensor], classes: int) -> Tensor:
    """Count the pixels of each class, ``(classes,)``, in label maps of integers, or in one tensor of several."""
    counts = torch.zeros(classes)
    for label in labels:
        counts += torch.bincount(label[label < classes].long(), minlength=classes)
    return counts


def rare_classes(data: LabelledImages) -> Tensor:
    """Return which classes have less than an even share of a set's pixels, bool ``(classes,)``."""
    counts = class_counts(label_sample(data), len(data.classes))
    return counts * len(data.classes) < counts.sum()


def digest(data: LabelledImages) -> str:
    """Return a hash of a labelled set's contents, wherever it lies: its length, its classes, which images are labelled,
    and the content of ``SAMPLED`` of these.

    Raises:
        ValueError: no image is labelled.
    """
    indices = labelled_indices(data)
    total = hashlib.sha256(repr((len(data), tuple(data.classes), indices)).encode())
    for index in spread(indices, SAMPLED):
        total.update(data.content(index))
    return total.hexdigest()[:16]


def check_classes(job: str, network: VideoNetwork, names: Sequence[str], *, weights: str, mend: str) -> None:
    """Refuse data whose classes are not those of a network. A network whose classes have no names of their own takes
    any names.

    Args:
        job: the command that checks, for the message.
        names: the data's classes.
        weights: what the network is called in the message.
        mend: what to do if the network is the wrong one.

    Raises:
        ValueError: another number of classes, other names, or another order.
    """
    if len(names) != network.classes:
        raise ValueError(
            f"{job}: expected data of the {network.classes} classes of {weights}, got {len(names)}; give such data, or "
            f"{mend}"
        )
    if network.legend == Classes.numbered(network.classes):
        return
    for index, (ours, theirs) in enumerate(zip(network.legend.names, names, strict=True)):
        if ours != theirs:
            raise ValueError(
                f"{job}: expected data of the classes of {weights}, with {ours!r} as number {index}, got {theirs!r}; "
                f"give data of the same classes in the same order, or {mend}"
            )
