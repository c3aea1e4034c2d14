"""A small network whose labels tell one frame from another. Results are those of the real job."""

import pytest
import torch
from batches import SIZE

import lowlat.jobs.batch as job
from lowlat import models
from lowlat.lab.weights import save


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    network = models.build("lite", classes=3)
    # Labels that tell one frame from another.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(network.classifier.weight)
    torch.nn.init.zeros_(network.classifier.bias)
    # Frames are seen as they are.
    network.pixels = SIZE[0] * SIZE[1]
    save(network, path)
    return path


@pytest.fixture
def here(monkeypatch):
    """Tasks are done in this process, one after another."""

    def in_turn(work, tasks, workers, threads):
        for task in tasks:
            yield task, work(task)

    monkeypatch.setattr(job, "in_processes", in_turn)
