"""Training of every method of propagation on the same pairs, for comparing them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator

from lowlat import models
from lowlat.data.open import open_dataset
from lowlat.data.pairs import ClipPairs, SimulatedPairs, read_clip
from lowlat.networks.video_network import VideoNetwork
from lowlat.propagation import METHODS, build, weights
from lowlat.train import processes
from lowlat.train.bank import Bank, PairSource
from lowlat.train.loop import Recipe
from lowlat.train.propagation import RECIPE, frozen_features, train_propagation

PAIRS = 1000  # in a bank
SHARES = {"simulated": 3, "clips": 1, "video": 1}
"""Pairs of one source to those of another, where a bank has several: simulated motion on labelled images, unlabelled
clips, labelled video."""
TRAINED = tuple(name for name, kind in METHODS.items() if kind.trained)


def draw_bank(
    network: VideoNetwork,
    sources: Mapping[str, PairSource | None],
    generator: Generator,
    *,
    pairs: int | None = None,
    device: str = "cpu",
) -> Bank:
    """A bank of ``pairs`` from the sources that are there and hold any, shared out among them by ``SHARES``.

    Raises:
        ValueError: an unknown source, or none that holds pairs.
    """
    if unknown := set(sources) - set(SHARES):
        raise ValueError(f"draw_bank: expected sources among {', '.join(SHARES)}, got {', '.join(sorted(unknown))}")
    there = {name: source for name, source in sources.items() if source}
    if not there:
        raise ValueError(f"draw_bank: expected pairs from one of {', '.join(SHARES)}, got none; give images or clips")
    pairs = PAIRS if pairs is None else pairs
    bounds = [0, *itertools.accumulate(SHARES[name] for name in there)]
    cuts = [round(pairs * bound / bounds[-1]) for bound in bounds]
    counts = [after - before for before, after in itertools.pairwise(cuts)]
    return Bank(network, list(zip(there.values(), counts, strict=True)), generator, device)


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
        if processes.rank() == 0:
            weights.save(method, path)
        processes.wait()
    return files


def train_for_comparison(
    method: str,
    *,
    data: str | Path,
    out: str | Path,
    clips: Sequence[str | Path] = (),
    simulated: bool = True,
    device: str = "cpu",
    recipe: Recipe = RECIPE,
    views: int = 1,
    pairs: int | None = None,
) -> dict[str, Path]:
    """:func:`train_methods` from files: one method, or ``"all"``, around ``<out>/finetune.safetensors``.

    Args:
        data: a labelled set, as `open_dataset` takes it; its list ``train``.
        clips: unlabelled videos.
        simulated: whether to make pairs of the labelled images; without them there are the clips alone.
        views: key frames drawn from each labelled image.
        pairs: how many the methods are trained on.

    Raises:
        ValueError: no such method or nothing to train in it, no such data, or the base network has not been trained.
    """
    names = TRAINED if method == "all" else (method,)
    check_trained(names)
    before = Path(out) / "finetune.safetensors"
    if not before.is_file():
        raise ValueError(
            f"train: expected the stage before 'propagation' in {out}, found no {before.name}; train it first"
        )
    network = models.load(before).to(device, memory_format=torch.channels_last)
    features = frozen_features(network, device)
    generator = Generator().manual_seed(recipe.seed)
    sources: dict[str, PairSource] = {}
    if simulated:
        images = open_dataset(data, "train").load()
        sources["simulated"] = SimulatedPairs(*images, features, views=views, generator=generator)
    if clips:
        sources["clips"] = ClipPairs([scene for clip in clips for scene in read_clip(clip)], features)
    bank = draw_bank(network, sources, generator, pairs=pairs, device=device)
    return train_methods(names, network, bank, out, recipe=recipe, device=device)


def check_trained(names: Sequence[str]) -> None:
    """ValueError for a name that is no method, or one with nothing to train."""
    for name in names:
        if name not in TRAINED:
            raise ValueError(f"train: expected a method among {', '.join(TRAINED)} or all, got {name!r}")
