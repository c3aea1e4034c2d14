"""The names that public ResNet-101s and PSPNets give their tensors, and the names of the same tensors in
`resnet101`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

Rule = tuple[str, str]
"""A pattern that a whole public name fits, and the name here."""

LAYERS: Rule = (r"(layer[1-4]\..+)", r"backbone.\1")
PLAIN_STEM: Rule = (r"((?:conv1|bn1)\..+)", r"backbone.\1")


@dataclass(frozen=True)
class Naming:
    """One program's way to name the tensors of a network.

    Args:
        title: what it is called in reports.
        sign: a pattern that some names of such a checkpoint, and of no other, begin with.
        rules: public names to ours; the first that fits counts.
        unused: a pattern that names begin with for which there is no use here.
        head: whether the checkpoint holds the head and the classifier too.
        align_corners: how the program resizes features and scores.
        contract: whether the first block of a dilated layer keeps the dilation of the layer before it.
    """

    title: str
    sign: str
    rules: tuple[Rule, ...]
    unused: str
    head: bool
    align_corners: bool = False
    contract: bool = True

    def rename(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return our name for each public name, None for a tensor that is not used. Names that fit no rule are left
        out."""
        found: dict[str, str | None] = {}
        for name in names:
            if re.match(self.unused, name):
                found[name] = None
            for pattern, ours in self.rules:
                if re.fullmatch(pattern, name):
                    found[name] = re.sub(pattern, ours, name)
                    break
        return found


MMSEGMENTATION = Naming(
    "PSPNet of mmsegmentation",
    sign=r"decode_head\.",
    rules=(
        (r"backbone\.stem\.(.+)", r"backbone.conv1.\1"),
        (r"(backbone\.(?:conv1|bn1|layer[1-4])\..+)", r"\1"),
        (r"decode_head\.psp_modules\.(\d)\.1\.(.+)", r"head.branches.\1.\2"),
        (r"decode_head\.bottleneck\.(.+)", r"head.bottleneck.\1"),
        (r"decode_head\.conv_seg\.(.+)", r"classifier.\1"),
    ),
    unused=r"auxiliary_head\.",
    head=True,
)
_SEMSEG_HEAD = (
    LAYERS,
    (r"ppm\.features\.(\d)\.1\.(.+)", r"head.branches.\1.conv.\2"),
    (r"ppm\.features\.(\d)\.2\.(.+)", r"head.branches.\1.bn.\2"),
    (r"cls\.0\.(.+)", r"head.bottleneck.conv.\1"),
    (r"cls\.1\.(.+)", r"head.bottleneck.bn.\1"),
    (r"cls\.4\.(.+)", r"classifier.\1"),
)
# Its dilations are set by name after the network is built: the first block of a layer has that of the others.
SEMSEG = Naming(
    "PSPNet of semseg",
    sign=r"layer0\.3\.",
    rules=((r"layer0\.(.+)", r"backbone.conv1.\1"), *_SEMSEG_HEAD),
    unused=r"aux\.",
    head=True,
    align_corners=True,
    contract=False,
)
SEMSEG_PLAIN = Naming(
    "PSPNet of semseg, plain stem",
    sign=r"layer0\.",
    rules=((r"layer0\.0\.(.+)", r"backbone.conv1.\1"), (r"layer0\.1\.(.+)", r"backbone.bn1.\1"), *_SEMSEG_HEAD),
    unused=r"aux\.",
    head=True,
    align_corners=True,
    contract=False,
)
DEEP_RESNET = Naming(
    "ResNet-101 of timm, deep stem",
    sign=r"conv1\.6\.",
    rules=((r"(conv1\..+)", r"backbone.\1"), (r"bn1\.(.+)", r"backbone.conv1.7.\1"), LAYERS),
    unused=r"fc\.",
    head=False,
)
SEMSEG_RESNET = Naming(
    "ResNet-101 of semseg",
    sign=r"conv3\.weight",
    rules=(
        *((rf"conv{i}\.(.+)", rf"backbone.conv1.{3 * i - 3}.\1") for i in (1, 2, 3)),
        *((rf"bn{i}\.(.+)", rf"backbone.conv1.{3 * i - 2}.\1") for i in (1, 2, 3)),
        LAYERS,
    ),
    unused=r"fc\.",
    head=False,
    align_corners=True,
    contract=False,
)
RESNET = Naming(
    "ResNet-101 of torchvision or timm", sign=r"conv1\.weight", rules=(PLAIN_STEM, LAYERS), unused=r"fc\.", head=False
)
NAMINGS = (MMSEGMENTATION, SEMSEG, SEMSEG_PLAIN, DEEP_RESNET, SEMSEG_RESNET, RESNET)


def recognise(state: Mapping[str, Tensor]) -> Naming:
    """Return the naming that a state dict follows; ``ValueError``, which shows some of its names, if it follows
    none."""
    for naming in NAMINGS:
        if any(re.match(naming.sign, name) for name in state):
            return naming
    titles = ", ".join(naming.title for naming in NAMINGS)
    raise ValueError(
        f"convert: expected the names of one of {titles}, got names as {', '.join(list(state)[:4])}; another network "
        "is taken as it is by lowlat.adopt"
    )


def variant(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Return which stem and shortcuts a state dict under our names has, as arguments of `lowlat.models.resnet101`."""
    found: dict[str, object] = {}
    first, last = (state.get(f"backbone.conv1.{index}.weight") for index in (0, 6))
    if first is not None and last is not None:
        found["deep_stem"] = [first.shape[0], last.shape[0]]
    if "backbone.layer1.0.downsample.2.weight" in state:
        found["pool"] = True
    return found


def depth(state: Mapping[str, Tensor]) -> str:
    """Say which depth the numbers of blocks mean, in words; empty if they are ResNet-101's."""
    places = [re.match(r"backbone\.layer(\d)\.(\d+)\.", name) for name in state]
    found = [(int(place[1]), int(place[2])) for place in places if place]
    blocks = [1 + max((block for layer, block in found if layer == wanted), default=-1) for wanted in range(1, 5)]
    known = {(2, 2, 2, 2): "ResNet-18", (3, 4, 6, 3): "ResNet-34 or 50", (3, 8, 36, 3): "ResNet-152"}
    if blocks == [3, 4, 23, 3]:
        return ""
    told = known.get(tuple(blocks), "none that is known here")
    return f"layers of {', '.join(map(str, blocks))} blocks ({told})"
