"""The fourth stage of training: the key frame selector, on the share of pixels whose predicted label changes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.jobs.progress import track
from lowlat.lab.data.pairs import Features, SimulatedPairs
from lowlat.lab.train.batch import Share
from lowlat.lab.train.loop import Recipe, fit
from lowlat.networks.video_network import VideoNetwork

RECIPE = Recipe(steps=300, batch=16, learning_rate=1e-3, weight_decay=0.0)
SIMULATED = 600  # simulated pairs, whose deviations are measured before training


class DeviationPairs:
    """Pairs of F_l with the deviation of the per-frame network's labels between them, measured once and kept.

    All motion is simulated: given a clip or two beside it, the selector learns to tell real frames from simulated
    ones, which predicts the deviation in training and says nothing on any other video.
    """

    def __init__(self, simulated: SimulatedPairs, features: Features, generator: Generator, count: int | None = None):
        kept = []
        for _ in track(range((SIMULATED if count is None else count) // 4), "deviations"):
            pairs = simulated.batch(4, generator, middle=False)
            low, _, labels = features(pairs.current)
            changed = (labels != simulated.predicted[pairs.chosen]).float().mean((1, 2))
            kept.append((pairs.low.half(), low.half(), changed))
        self.keys, self.currents, self.deviations = (torch.cat(tensors) for tensors in zip(*kept, strict=True))

    def batch(self, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw ``count`` pairs: F_l of key frames, F_l of current frames, deviations ``(count,)``."""
        chosen = torch.randint(len(self.keys), (count,), generator=generator)
        return self.keys[chosen].float(), self.currents[chosen].float(), self.deviations[chosen]


def train_selector(
    network: VideoNetwork,
    pairs: DeviationPairs,
    folder,
    recipe: Recipe = RECIPE,
    device: str = "cpu",
    *,
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> None:
    """Train the selector and its third of the reduction in place, mean squared error on the deviation.

    Args:
        starts_from: see `fit`.
    """
    network.eval()
    modules = nn.ModuleList([network.reduction, network.selector])
    groups = [{"params": [network.reduction.conv.weight, network.reduction.bn.weight, network.reduction.bn.bias]}]
    groups.append({"params": list(network.selector.parameters())})

    def draw(share: Share) -> tuple[Tensor, Tensor, Tensor]:
        return share.collect(lambda generator: pairs.batch(1, generator))

    def loss(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        keys, currents, deviations = (tensor.to(device) for tensor in batch)
        anchor = network.anchor(network.reduce(keys))
        predicted = network.deviation(anchor, network.reduce(currents))
        return F.mse_loss(predicted.float(), deviations)

    fit("selector", modules, groups, draw, loss, recipe, folder, starts_from=starts_from, tensorboard=tensorboard)
