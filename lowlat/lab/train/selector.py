"""The stage ``selector``: the key frame selector, on the share of pixels whose per-frame label changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.lab.data.pairs import Features, PairKind
from lowlat.lab.train.batch import Share, collate
from lowlat.lab.train.loop import fit
from lowlat.lab.train.recipe import Recipe
from lowlat.lab.train.shelf import Shelf
from lowlat.networks.video_network import VideoNetwork

Drawn = tuple[Tensor, Tensor, Tensor]
"""F_l of key frames, F_l of current frames, deviations ``(N,)``."""


class DeviationPairs:
    """Pairs of F_l with the deviation of the per-frame network's labels between them.

    For `lite` all motion is simulated: given a clip or two beside it, the selector learns to tell real frames from
    simulated ones, which predicts the deviation in training and says nothing on any other video.

    Args:
        kind: where the pairs come from; labels of theirs are not looked at.
        features: the frozen per-frame network.
        count: how many are drawn once and kept; 0 to draw every pair afresh.
        seed, folder, about: see `Shelf`.
    """

    def __init__(
        self,
        kind: PairKind,
        features: Features,
        *,
        count: int,
        seed: int,
        folder: Path | None = None,
        about: Mapping[str, object] | None = None,
    ):
        self.kind, self.features = kind, features

        def draw(numbers: range, generator: Generator) -> list[Tensor]:
            return self._measured(len(numbers), generator)

        self.shelf = Shelf("deviations", draw, count, seed=seed, folder=folder, about=about) if count else None

    def _measured(self, count: int, generator: Generator) -> list[Tensor]:
        pairs = self.kind.batch(count, generator)
        low, _, labels = self.features(pairs.current)
        changed = (labels != pairs.predicted).float().mean((1, 2))
        return [pairs.low.half(), low.half(), changed]

    def batch(self, count: int, generator: Generator) -> Drawn:
        """Draw ``count`` pairs."""
        if self.shelf is None:
            drawn = collate([self._measured(1, generator) for _ in range(count)])
        else:
            drawn = self.shelf.batch(count, generator)
        keys, currents, changed = drawn
        return keys.float(), currents.float(), changed

    def one(self, generator: Generator) -> Drawn:
        """Draw one pair, as an example of a step."""
        return self.batch(1, generator)

    def remove(self) -> None:
        """Remove the files, where there are any."""
        if self.shelf is not None:
            self.shelf.remove()


def train_selector(
    network: VideoNetwork,
    draw_pairs: Callable[[Generator], Drawn],
    folder: str | Path,
    recipe: Recipe,
    device: str = "cpu",
    *,
    name: str = "selector",
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> None:
    """Train the selector and its third of the reduction in place, mean squared error on the deviation.

    Args:
        draw_pairs: draws one pair.
        name, starts_from: see `fit`.
    """
    network.eval()
    modules = nn.ModuleList([network.reduction, network.selector])
    groups = [{"params": [network.reduction.conv.weight, network.reduction.bn.weight, network.reduction.bn.bias]}]
    groups.append({"params": list(network.selector.parameters())})

    def draw(share: Share) -> Drawn:
        return share.collect(draw_pairs)

    def loss(batch: Drawn) -> Tensor:
        return deviation_loss(network, *(tensor.to(device) for tensor in batch))

    fit(name, modules, groups, draw, loss, recipe, folder, starts_from=starts_from, tensorboard=tensorboard)


def deviation_loss(network: VideoNetwork, keys: Tensor, currents: Tensor, deviations: Tensor) -> Tensor:
    """Return the loss of one pass of the selector: F_l of two frames ``(N, C_l, h, w)``, deviations ``(N,)``."""
    anchor = network.anchor(network.reduce(keys))
    predicted = network.deviation(anchor, network.reduce(currents))
    return F.mse_loss(predicted.float(), deviations)
