"""Training of every method of propagation on the same pairs, for comparing them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator

from lowlat import models
from lowlat.data.camvid import CamVid
from lowlat.data.pairs import ClipPairs, SimulatedPairs, read_clip
from lowlat.networks.video_network import VideoNetwork
from lowlat.propagation import METHODS, build, weights
from lowlat.train.bank import Bank
from lowlat.train.loop import Recipe
from lowlat.train.propagation import RECIPE, frozen_features, train_propagation

PAIRS = 1000  # in a bank
CLIP_SHARE = 0.25  # of them, where there are clips
TRAINED = tuple(name for name, kind in METHODS.items() if kind.trained)


def draw_bank(
    network: VideoNetwork,
    simulated: SimulatedPairs | None,
    clips: ClipPairs | None,
    generator: Generator,
    *,
    pairs: int | None = None,
    device: str = "cpu",
) -> Bank:
    """A bank of ``pairs`` from the sources there are, ``CLIP_SHARE`` of them from clips where there are both."""
    pairs = PAIRS if pairs is None else pairs
    sources = [source for source in (simulated, clips) if source]
    if not sources:
        raise ValueError("draw_bank: expected simulated pairs or clips, got neither; give one")
    from_clips = round(pairs * (CLIP_SHARE if len(sources) == 2 else bool(clips)))
    counts = {id(simulated): pairs - from_clips, id(clips): from_clips}
    return Bank(network, [(source, counts[id(source)]) for source in sources], generator, device)


def train_methods(
    names: Sequence[str],
    network: VideoNetwork,
    bank: Bank,
    out: str | Path,
    *,
    recipe: Recipe = RECIPE,
    device: str = "cpu",
) -> dict[str, Path]:
    """Train methods one after another, each from fresh parameters, on the same pairs in the same order.

    Each leaves ``<out>/propagation-<name>.safetensors`` (`lowlat.propagation.weights`) and is not trained again.

    Args:
        names: among `TRAINED`.
        network: the trained per-frame network; it is left as it is.

    Raises:
        ValueError: a method that has nothing to train, or a file learned on another network.
    """
    check_trained(names)
    files = {name: Path(out) / f"propagation-{name}.safetensors" for name in names}
    for name, path in files.items():
        if path.is_file():
            weights.load(path, copy.deepcopy(network))
            continue
        method = build(name, copy.deepcopy(network)).to(device)
        train_propagation(path.stem, method, bank, out, recipe, device)
        weights.save(method, path)
    return files


def train_for_comparison(
    method: str,
    *,
    data: str | Path,
    out: str | Path,
    clips: Sequence[str | Path] = (),
    device: str = "cpu",
    recipe: Recipe = RECIPE,
    views: int = 1,
    pairs: int | None = None,
) -> dict[str, Path]:
    """:func:`train_methods` from files: one method, or ``"all"``, around ``<out>/base.safetensors``.

    Raises:
        ValueError: no such method or nothing to train in it, no such data, or the base network has not been trained.
    """
    names = TRAINED if method == "all" else (method,)
    check_trained(names)
    before = Path(out) / "base.safetensors"
    if not before.is_file():
        raise ValueError(
            f"train: expected the stage before 'propagation' in {out}, found no {before.name}; train it first"
        )
    network = models.load(before).to(device, memory_format=torch.channels_last)
    features = frozen_features(network, device)
    generator = Generator().manual_seed(recipe.seed)
    simulated = SimulatedPairs(*CamVid(data, "train").load(), features, views=views, generator=generator)
    unlabelled = ClipPairs([scene for clip in clips for scene in read_clip(clip)], features)
    bank = draw_bank(network, simulated, unlabelled, generator, pairs=pairs, device=device)
    return train_methods(names, network, bank, out, recipe=recipe, device=device)


def check_trained(names: Sequence[str]) -> None:
    """ValueError for a name that is no method, or one with nothing to train."""
    for name in names:
        if name not in TRAINED:
            raise ValueError(f"train: expected a method among {', '.join(TRAINED)} or all, got {name!r}")
