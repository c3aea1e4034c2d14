"""Third stage: the key frame selector, on the share of pixels whose predicted label changes between two frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat.data.pairs import ClipPairs, Features, SimulatedPairs
from lowlat.networks.video_network import VideoNetwork
from lowlat.progress import track
from lowlat.train.loop import Recipe, fit

RECIPE = Recipe(steps=400, batch=16, learning_rate=1e-3, weight_decay=0.0)
SIMULATED = 600  # pairs whose deviation is measured before training
INTERVAL = 5  # frames of simulated driving whose typical deviation becomes the default threshold


class DeviationPairs:
    """Pairs of F_l with the deviation of the per-frame network's labels between them, measured once and kept."""

    def __init__(self, simulated: SimulatedPairs, clips: ClipPairs, features: Features, generator: Generator):
        self.clips = clips
        keys, currents, deviations, distances = [], [], [], []
        for _ in track(range(SIMULATED // 4), "deviations"):
            pairs = simulated.batch(4, generator, middle=False)
            low, _, labels = features(pairs.current)
            before = simulated.predicted[pairs.chosen]
            keys.append(pairs.low.half())
            currents.append(low.half())
            distances.append(pairs.distances)
            deviations.append((labels != before).float().mean((1, 2)))
        self.keys, self.currents = torch.cat(keys), torch.cat(currents)
        self.deviations, self.distances = torch.cat(deviations), torch.cat(distances)

    def batch(self, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """F_l of key frames, F_l of current frames, deviations ``(count,)``; half from clips where there are any."""
        from_clips = count // 2 if self.clips else 0
        chosen = torch.randint(len(self.keys), (count - from_clips,), generator=generator)
        keys, currents, deviations = [self.keys[chosen]], [self.currents[chosen]], [self.deviations[chosen]]
        for clip, key, now in self.clips.draw(from_clips, generator) if from_clips else ():
            keys.append(self.clips.low[clip][key, None])
            currents.append(self.clips.low[clip][now, None])
            changed = self.clips.labels[clip][key] != self.clips.labels[clip][now]
            deviations.append(changed.float().mean()[None])
        return torch.cat(keys).float(), torch.cat(currents).float(), torch.cat(deviations)


def train_selector(
    network: VideoNetwork, pairs: DeviationPairs, folder, recipe: Recipe = RECIPE, device: str = "cpu"
) -> None:
    """Train the selector and its third of the reduction in place, mean squared error on the deviation."""
    network.eval()
    modules = nn.ModuleList([network.reduction, network.selector])
    groups = [{"params": [network.reduction.conv.weight, network.reduction.bn.weight, network.reduction.bn.bias]}]
    groups.append({"params": list(network.selector.parameters())})

    def loss(generator: Generator) -> Tensor:
        keys, currents, deviations = (tensor.to(device) for tensor in pairs.batch(recipe.batch, generator))
        anchor = network.anchor(network.reduce(keys))
        predicted = network.deviation(anchor, network.reduce(currents))
        return F.mse_loss(predicted, deviations)

    fit("selector", modules, groups, loss, recipe, folder)


@torch.no_grad()
def typical_deviation(network: VideoNetwork, pairs: DeviationPairs) -> float:
    """The deviation predicted, in the median, after ``INTERVAL`` frames of simulated driving."""
    near = (pairs.distances - INTERVAL).abs() < 1
    keys, currents = (low[near].float().to(network.mean.device) for low in (pairs.keys, pairs.currents))
    predicted = [
        network.deviation(network.anchor(network.reduce(key)), network.reduce(current))
        for key, current in zip(keys.split(16), currents.split(16), strict=True)
    ]
    return round(torch.cat(predicted).median().item(), 3)
