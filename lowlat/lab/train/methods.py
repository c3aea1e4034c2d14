"""Training of every method on the same pairs, for comparing them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Generator

from lowlat.lab.data.dataset import digest, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.pairs import ClipPairs, SimulatedPairs, read_clip
from lowlat.lab.methods import METHODS, build, weights
from lowlat.lab.train import processes
from lowlat.lab.train.bank import Bank, PairSource
from lowlat.lab.train.loop import Recipe
from lowlat.lab.train.propagation import RECIPE, frozen_features, load_base, train_propagation
from lowlat.lab.train.provenance import videos_digest, weights_digest
from lowlat.networks.video_network import VideoNetwork

PAIRS = 1000  # pairs in a bank, by default
SHARES = {"simulated": 3, "clips": 1, "video": 1}
"""How many pairs come from one source for those of another, in a bank that has several: simulated motion on labelled
images, unlabelled clips, labelled video."""
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
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> dict[str, Path]:
    """Train methods one after another, each from fresh parameters, on the same pairs in the same order.

    Each leaves ``<out>/propagation-<name>.safetensors`` (`lowlat.lab.methods.weights`) and is not trained again.

    Args:
        names: among `TRAINED`.
        network: the trained per-frame network; it is left as it is.
        starts_from: what the pairs were made from, see `fit`.
        tensorboard: whether to write TensorBoard's files beside the logs.

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
        train_propagation(
            path.stem, method, bank, out, recipe, device, starts_from=starts_from, tensorboard=tensorboard
        )
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
    init: str | Path | None = None,
    simulated: bool = True,
    device: str = "cpu",
    recipe: Recipe = RECIPE,
    views: int = 1,
    pairs: int | None = None,
    tensorboard: bool = False,
) -> dict[str, Path]:
    """:func:`train_methods` from files: one method, or ``"all"``, around ``init`` or ``<out>/finetune.safetensors``.

    Args:
        data: a labelled set, as `open_dataset` takes it; its list ``train``.
        clips: unlabelled videos.
        init: the per-frame network: a shipped network's name or a file.
        simulated: whether to make pairs of the labelled images; without them there are the clips alone.
        views: key frames drawn from each labelled image.
        pairs: how many the methods are trained on.
        tensorboard: whether to write TensorBoard's files beside the logs.

    Raises:
        ValueError: no such method or nothing to train in it, no such data, or the base network has not been trained,
            or for other classes.
    """
    names = TRAINED if method == "all" else (method,)
    check_trained(names)
    start = init or Path(out) / "finetune.safetensors"
    if init is None and not start.is_file():
        raise ValueError(
            f"train: expected the stage before 'propagation' in {out}, found no {start.name}; "
            "train it first, or give its weights by init"
        )
    labelled = open_dataset(data, "train")
    network = load_base(start, len(labelled.classes), device)
    features = frozen_features(network, device)
    generator = Generator().manual_seed(recipe.seed)
    sources: dict[str, PairSource] = {}
    if simulated:
        indices = labelled_indices(labelled)
        sources["simulated"] = SimulatedPairs(labelled, indices, features, views=views, generator=generator)
    if clips:
        sources["clips"] = ClipPairs([scene for clip in clips for scene in read_clip(clip)], features)
    bank = draw_bank(network, sources, generator, pairs=pairs, device=device)
    starts_from = {
        "data": digest(labelled) if simulated else "none",
        "start": weights_digest(start),
        "clips": videos_digest(clips),
        "views": str(views),
        "pairs": str(len(bank)),
    }
    options = {"recipe": recipe, "device": device, "starts_from": starts_from, "tensorboard": tensorboard}
    return train_methods(names, network, bank, out, **options)


def check_trained(names: Sequence[str]) -> None:
    """Raise ``ValueError`` for a name that is no method, or one with nothing to train."""
    for name in names:
        if name not in TRAINED:
            raise ValueError(f"train: expected a method among {', '.join(TRAINED)} or all, got {name!r}")
