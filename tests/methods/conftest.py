"""Pairs and a labelled video small enough to train and evaluate every method in seconds."""

import pytest
import torch
import torch.nn.functional as F

from lowlat.lab.data.pairs import Pairs

SIZE = (48, 72)
FRAMES = 14


class Drifting:
    """A labelled video of coloured blocks that drift to the left, two pixels a frame; frame 5 has no labels."""

    split, classes = "val", tuple("abcdefghijk")

    def __init__(self, frames=FRAMES):
        random = torch.Generator().manual_seed(3)
        blocks = torch.randint(0, 12, (1, 1, 6, 18), generator=random).float()
        labels = F.interpolate(blocks, scale_factor=8)[0, 0].to(torch.uint8)
        self.videos = [range(frames)]
        self.labels = [labels[:, 2 * i : 2 * i + SIZE[1]] for i in range(frames)]

    def __len__(self):
        return len(self.labels)

    def label(self, index):
        return None if index == 5 else self.labels[index]

    def image(self, index):
        label = self.labels[index]
        return torch.stack((label * 20, 250 - label * 20, label * 7 % 255))

    def flow(self, index):
        return torch.tensor([2.0, 0.0]).view(2, 1, 1).expand(2, *SIZE)


class DriftingPairs:
    """Pairs from such a video, as `SimulatedPairs` and `ClipPairs` give them."""

    def __init__(self, network, data):
        self.network, self.data = network, data

    @torch.no_grad()
    def batch(self, count, generator, *, between=0):
        keys = torch.randint(0, FRAMES - 4, (count,), generator=generator).tolist()
        steps = [0, *(4 * (stop + 1) // (between + 1) for stop in range(between)), 4]
        key, *way, now = (torch.stack([self.data.image(k + step) for k in keys]).float() for step in steps)
        low = self.network.lower(self.network.normalise(key))
        labels = torch.stack([self.data.labels[k + 4] for k in keys]).long()
        predicted = torch.stack([self.data.labels[k] for k in keys])
        return Pairs(low, self.network.higher(low), predicted, torch.stack(way, 1) if way else None, now, labels, key)


@pytest.fixture(scope="package")
def drifting():
    return Drifting()


@pytest.fixture(scope="package")
def pairs(tiny_network, drifting):
    return DriftingPairs(tiny_network, drifting)


@pytest.fixture(autouse=True)
def small_work(one_thread):
    pass
