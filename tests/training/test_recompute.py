"""Activation checkpointing: the same losses, gradients and statistics as without."""

import copy

import pytest
import torch

from lowlat import models
from lowlat.lab.train import per_frame, train
from lowlat.lab.train.recipe import change
from lowlat.lab.train.recipes import recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")


def step(network, recipe):
    per_frame.train_mode(network, recipe.frozen)
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 48, 64, generator=generator) * 255
    labels = torch.randint(0, network.classes, (2, 48, 64), generator=generator)
    loss = per_frame.per_frame_loss(network, frames, labels, None, recipe)
    loss.total.backward()
    return loss.total.detach()


@pytest.mark.parametrize("frozen", [(), ("backbone.layers.0",)])
def test_gradients_and_statistics_are_the_same(tiny_network, frozen):
    check(copy.deepcopy(tiny_network), change(recipe_of("resnet101", "base"), frozen=frozen))


def test_gradients_of_lite_are_the_same():
    check(models.build("lite"), recipe_of("lite", "base"))


def check(plain, recipe):
    again = copy.deepcopy(plain)
    losses = [step(plain, recipe), step(again, change(recipe, recompute=True))]
    assert torch.equal(*losses)
    others = dict(again.named_parameters())
    taught = 0
    for name, parameter in plain.named_parameters():
        assert (parameter.grad is None) == (others[name].grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(others[name].grad, parameter.grad, rtol=1e-5, atol=1e-8, msg=name)
            taught += 1
    assert taught > 5
    moved = 0
    for name, value in plain.state_dict().items():
        if "running" in name or "batches" in name:
            assert torch.equal(again.state_dict()[name], value), name
            moved += "batches" in name and int(value)
    assert moved > 3, "no statistics were taken"


@pytest.mark.thorough
def test_a_training_may_change_to_it_and_back(tmp_path, monkeypatch):
    options = {"data": "street:64x48,seed=1,frames=4", "init": "lite", "pixels": 64 * 48, "steps": 2, "batch": 2}
    plain = models.load(train("finetune", out=tmp_path / "plain", **options)).state_dict()
    again = models.load(train("finetune", out=tmp_path / "again", recompute=True, **options)).state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4, msg=name)
