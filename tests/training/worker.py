"""A small training run as a process of its own, to be multiplied by torchrun, broken and killed.

python worker.py FOLDER [--steps N] [--precision P] [--norm batch|fixed] [--fail error|silence] [--timeout SECONDS]
"""

import argparse
import threading
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn

from lowlat.lab.train import processes
from lowlat.lab.train.loop import Recipe, fit
from lowlat.lab.train.per_frame import segmentation_loss
from lowlat.networks.layers import ConvBN

SIZE = (12, 20)
BROKEN_STEP = 2


def plain(share, one):
    return share.collect(one)


def train(folder, recipe, *, norm="batch", draw=plain, **options):
    """Fit two convolutions to random label maps, some of them mostly void; returns the modules and the best figure."""
    torch.manual_seed(0)
    network = nn.Sequential(ConvBN(3, 6, 3), nn.Conv2d(6, 4, 1))
    if norm == "fixed":
        network.eval()
    weights = torch.tensor([1.0, 0.5, 2.0, 0.7])

    def one(generator):
        image = torch.rand(1, 3, *SIZE, generator=generator)
        labels = (image[:, 0] * 4).long()
        labels[:, int(torch.randint(1, SIZE[0], (), generator=generator)) :] = 255
        return image, labels

    def loss(batch):
        images, labels = batch
        return segmentation_loss(network(images), labels, weights)

    def validate():
        return -network[1].weight.square().mean().item()

    groups = [{"params": list(network.parameters())}]
    options = {"validate": validate, **options}
    best = fit("tiny", network, groups, lambda share: draw(share, one), loss, recipe, folder, **options)
    return network, best


def recipe(**changes):
    return Recipe(
        **{"steps": 12, "batch": 8, "learning_rate": 0.02, "warmup": 2, "checkpoint_every": 5, "validate_every": 4}
        | changes
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--fail", choices=("error", "silence"))
    parser.add_argument("--timeout", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    drawn = 0

    def draw(share, one):
        nonlocal drawn
        print("drawn", drawn, flush=True)
        drawn += 1
        if options.fail and processes.rank() == 1 and drawn > BROKEN_STEP:
            if options.fail == "silence":
                threading.Event().wait()
            raise ValueError("worker: expected a picture, got a hole")
        return share.collect(one)

    with processes.joined("cpu", timedelta(seconds=options.timeout)):
        changes = {"steps": options.steps, "precision": options.precision, "workers": 0}
        network, _ = train(options.folder, recipe(**changes), draw=draw, norm=options.norm)
        if processes.rank() == 0:
            torch.save(network.state_dict(), options.folder / "final.pt")


if __name__ == "__main__":
    main()
