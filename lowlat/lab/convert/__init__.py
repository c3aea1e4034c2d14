"""Public checkpoints as weights of `resnet101`: `lowlat convert` is a shell over this.

`checkpoint.py` opens the file, `names.py` knows what each program calls the tensors, `settings.py` reads the
configuration that may be kept beside them, `legend.py` the classes; `start.py` gives the untrained fast track a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowlat import models
from lowlat.classes import Classes, distinct_colour
from lowlat.lab.convert.checkpoint import COUNTER, Checkpoint, read
from lowlat.lab.convert.legend import named_classes
from lowlat.lab.convert.names import Naming, depth, recognise, variant
from lowlat.lab.convert.settings import of_config
from lowlat.lab.convert.start import start_at_the_classifier
from lowlat.lab.weights import BETWEEN_KEY_FRAMES, PER_FRAME, save
from lowlat.networks.video_network import VideoNetwork

SHOWN = 6  # names in an error


@dataclass(frozen=True)
class Converted:
    """The report of :func:`convert`."""

    checkpoint: str
    weights: str
    program: str
    """The program whose names the checkpoint has."""
    options: dict[str, Any]
    """What `lowlat.models.resnet101` is built with: stem, places of dilation, `align_corners`, normalisation."""
    assumed: list[str]
    """Options that the checkpoint doesn't say, taken as its program publishes them."""
    classes: list[str]
    pixels: int | None
    """How many pixels the working size has that the file keeps; None for frames as they are."""
    used: int
    """How many tensors of the checkpoint the network has."""
    unused: list[str]
    """The tensors that the network has not: an auxiliary head's, or ImageNet's classifier."""
    beside: list[str]
    """What else the file holds and nothing was taken of: an optimizer's state, an average of the weights."""
    untrained: list[str]
    """Modules of the network that are not in the checkpoint."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    classes: str | None = None,
    pixels: int | str | None = "default",
    half: bool = False,
) -> Converted:
    """Write the weights of a public ResNet-101 or PSPNet checkpoint as a file of weights for every command.

    A ResNet-101 trained on ImageNet gives start weights for ``lowlat train base --init``. A whole PSPNet gives a
    network that labels frames; its fast track is still to be trained, by ``lowlat train distill``.

    Args:
        checkpoint: a safetensors file, or what `torch.save` wrote; nothing in it is run.
        out: the file to write; it appears whole or not at all.
        classes: ``"cityscapes"``, ``"camvid"`` or a file ``classes.csv``; by default as the checkpoint says, else
            numbered.
        pixels: of the working size that the file is to keep: about so many, None for frames as they are; "default" for
            that of `lite`. No checkpoint says at what size it was trained.
        half: keep convolutions in float16, which halves the file.

    Raises:
        ValueError: no such file, one that is no such checkpoint, or tensors that are missing, left over, of other
            shapes or not finite; classes of another number; an output that is the checkpoint. Nothing is written then.
        OSError: the output can't be written.
    """
    legend = named_classes(classes) if classes else None
    given = read(checkpoint)
    _check_output(Path(checkpoint), Path(out))
    naming = recognise(given.state)
    renamed = naming.rename(given.state)
    if strays := [name for name in given.state if name not in renamed]:
        raise ValueError(
            f"convert: expected the tensors of a {naming.title}, got others too: {_listed(strays)}; another network is "
            "taken as it is by lowlat.adopt"
        )
    state = {ours: given.state[name] for name, ours in renamed.items() if ours}
    used = [name for name, ours in renamed.items() if ours]
    if doubled := [name for name in used if state[renamed[name]] is not given.state[name]]:
        raise ValueError(
            f"convert: expected every tensor of a {naming.title} under one name, got those of one place twice: "
            f"{_listed(doubled)}; leave one out"
        )
    options, assumed = _options(naming, given, state)
    network = _network(naming, state, options, legend or _legend(given.meta))
    _load(network, naming, state, {ours: name for name, ours in renamed.items() if ours})
    if pixels != "default":
        network.pixels = pixels
    if naming.head:
        start_at_the_classifier(network)
    here = [name for name in (*PER_FRAME, *BETWEEN_KEY_FRAMES) if getattr(network, name) is not None]
    network.untrained = tuple(name for name in here if not (naming.head and name in PER_FRAME))
    save(network, out, half=half, converted=naming.title)
    return Converted(
        checkpoint=str(checkpoint),
        weights=str(out),
        program=naming.title,
        options=options,
        assumed=assumed,
        classes=list(network.legend.names),
        pixels=network.pixels,
        used=len(state),
        unused=[name for name, ours in renamed.items() if not ours],
        beside=list(given.beside),
        untrained=list(network.untrained),
    )


def _check_output(checkpoint: Path, out: Path) -> None:
    """``ValueError`` for an output that is a folder or the checkpoint itself, before the work of converting."""
    if out.is_dir() or (out.is_file() and out.samefile(checkpoint)):
        got = f"the folder {str(out)!r}" if out.is_dir() else f"the checkpoint {str(out)!r} itself"
        raise ValueError(f"convert: expected a new file to write, got {got}; give -o another name")


def _options(naming: Naming, given: Checkpoint, state: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of `resnet101` beside the classes that differ from its defaults, and which of them are
    assumed."""
    told = of_config(given.meta)
    published = {"contract": naming.contract, "align_corners": naming.align_corners}
    assumed = [] if told else [f"{name}={value}" for name, value in published.items()] + ["ImageNet's mean and std"]
    said = published | (told or {})
    plain = {"contract": True, "align_corners": False}
    return variant(state) | {name: value for name, value in said.items() if plain.get(name) != value}, assumed


def _network(
    naming: Naming, state: Mapping[str, Tensor], options: dict[str, Any], legend: Classes | None
) -> VideoNetwork:
    """Build `resnet101` as the checkpoint has it, with its classes' names. Untrained modules are the same on every
    run."""
    count = len(legend) if legend else None
    if naming.head:
        scores = state.get("classifier.weight")
        if scores is None or scores.ndim != 4 or scores.shape[0] < 2:
            got = "none" if scores is None else f"one of shape {tuple(scores.shape)}"
            raise ValueError(
                f"convert: expected a classifier of two classes or more in a {naming.title}, got {got}; convert a "
                "checkpoint of a whole network"
            )
        if count is not None and count != scores.shape[0]:
            raise ValueError(
                f"convert: expected names for the checkpoint's {scores.shape[0]} classes, got {count}; "
                "give the set that it was trained on by --classes"
            )
        count = scores.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.build("resnet101", **({} if count is None else {"classes": count}), **options)
    if legend:
        network.legend = legend
    return network.eval()


def _load(network: VideoNetwork, naming: Naming, state: Mapping[str, Tensor], public: Mapping[str, str]) -> None:
    """Put the checkpoint's tensors in their places; ``ValueError`` names those that don't fit."""
    own = network.state_dict()
    parts = ("backbone.", "head.", "classifier.") if naming.head else ("backbone.",)
    expected = {name: tensor for name, tensor in own.items() if name.startswith(parts)}
    wrong = []
    if missing := [name for name in expected if name not in state and not name.endswith(COUNTER)]:
        wrong.append(f"{len(missing)} missing, which lowlat calls {_listed(missing)}")
    if strange := [public[name] for name in state if name not in expected]:
        wrong.append(f"{len(strange)} without a place: {_listed(strange)}")
    shapes = [
        f"{public[name]} of {tuple(tensor.shape)} for {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if shapes:
        wrong.append(f"{len(shapes)} of other shapes: {_listed(shapes)}")
    if wrong:
        blocks = depth(state)
        raise ValueError(
            f"convert: expected the tensors of a {naming.title}, got {'; '.join(wrong)}"
            f"{f'; it has {blocks}' if blocks else ''}; another network is taken as it is by lowlat.adopt"
        )
    state = {name: tensor.to(own[name].dtype) for name, tensor in state.items()}
    if broken := [public[name] for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(
            f"convert: expected finite numbers, got others in {_listed(broken)}; take an earlier checkpoint"
        )
    if negative := [public[name] for name, tensor in state.items() if name.endswith("_var") and tensor.min() < 0]:
        raise ValueError(
            f"convert: expected variances of at least 0, got lower ones in {_listed(negative)}; take an earlier "
            "checkpoint"
        )
    network.load_state_dict(own | state, strict=True)


def _legend(meta: Mapping[str, Any]) -> Classes | None:
    """Return the classes that mmsegmentation keeps beside the weights, in either of its two ways."""
    told = meta.get("dataset_meta")
    told = told if isinstance(told, Mapping) else {}
    names = told.get("classes") or meta.get("CLASSES")
    if not names:
        return None
    palette = told.get("palette") or meta.get("PALETTE") or [distinct_colour(index) for index in range(len(names))]
    return Classes(names, palette)


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
