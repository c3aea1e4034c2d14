"""Training of every method on the same pairs, for comparing them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from lowlat.lab.data.pairs import Features, PairKind
from lowlat.lab.methods import METHODS, build, weights
from lowlat.lab.train import processes
from lowlat.lab.train.bank import Bank, Fresh
from lowlat.lab.train.propagation import train_propagation
from lowlat.lab.train.recipe import Recipe
from lowlat.networks.video_network import VideoNetwork

PAIRS = 1000  # pairs in a bank for comparing methods
SHARES = {"simulated": 3, "clips": 1, "video": 1}
"""How many pairs are of one kind for those of another, where there are several: simulated motion on labelled images,
unlabelled clips, labelled video."""
TRAINED = tuple(name for name, kind in METHODS.items() if kind.trained)


def draw_bank(
    network: VideoNetwork,
    kinds: Mapping[str, PairKind | None],
    *,
    pairs: int,
    seed: int,
    device: str = "cpu",
    between: int = 1,
    teacher: Features | None = None,
    folder: Path | None = None,
    about: Mapping[str, object] | None = None,
) -> Bank | Fresh:
    """Return a bank of ``pairs`` of the kinds that are there and hold any, shared out among them by ``SHARES``.

    Args:
        pairs: how many; 0 to draw every pair afresh.
        between, teacher: see `Bank`.
        folder, about: see `lowlat.lab.train.shelf.Shelf`.

    Raises:
        ValueError: an unknown kind, or none that holds pairs.
    """
    if unknown := set(kinds) - set(SHARES):
        raise ValueError(f"draw_bank: expected kinds among {', '.join(SHARES)}, got {', '.join(sorted(unknown))}")
    there = {name: kind for name, kind in kinds.items() if kind}
    if not there:
        raise ValueError(f"draw_bank: expected pairs of one of {', '.join(SHARES)}, got none; give images or clips")
    shares = [SHARES[name] for name in there]
    if not pairs:
        kinds_and_shares = list(zip(there.values(), shares, strict=True))
        return Fresh(network, kinds_and_shares, device=device, between=between, teacher=teacher)
    bounds = [0, *itertools.accumulate(shares)]
    cuts = [round(pairs * bound / bounds[-1]) for bound in bounds]
    counts = [after - before for before, after in itertools.pairwise(cuts)]
    options = {"seed": seed, "device": device, "between": between, "teacher": teacher, "folder": folder, "about": about}
    return Bank(network, list(zip(there.values(), counts, strict=True)), **options)


def train_methods(
    names: Sequence[str],
    network: VideoNetwork,
    bank: Bank | Fresh,
    out: str | Path,
    *,
    recipe: Recipe,
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


def methods_of(words: str) -> tuple[str, ...]:
    """Return the methods that ``words`` ask for: one by its name, or ``"all"`` that are trained."""
    return TRAINED if words == "all" else (words,)


def check_trained(names: Sequence[str]) -> None:
    """Raise ``ValueError`` for a name that is no method, or one with nothing to train."""
    for name in names:
        if name not in TRAINED:
            raise ValueError(
                f"train: expected a method among {', '.join(TRAINED)} or all, got {name!r}; name one of them"
            )
