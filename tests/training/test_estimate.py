"""What a step takes, counted on fake tensors, against steps that are computed."""

import copy

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lowlat import models
from lowlat.lab.methods import OURS, build
from lowlat.lab.train import per_frame, propagation
from lowlat.lab.train.estimate import SHARE, counted_flops, dry_run, estimate
from lowlat.lab.train.loop import _Run
from lowlat.lab.train.recipe import Recipe, change
from lowlat.lab.train.recipes import PLANS, recipe_of

SIZE = (48, 64)
pytestmark = pytest.mark.usefixtures("one_thread")


def per_frame_step(network, recipe):
    per_frame.train_mode(network, recipe.frozen)
    frames = torch.rand(recipe.batch, 3, *SIZE) * 255
    labels = torch.randint(0, network.classes, (recipe.batch, *SIZE))
    return per_frame.per_frame_loss(network, frames, labels, None, recipe).total


def test_a_step_of_the_base_network_takes_what_is_estimated(tmp_path):
    recipe = change(recipe_of("lite", "base"), batch=2)
    network = models.build("lite", output_stride=16)
    found = estimate("base", network, recipe, SIZE)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        per_frame_step(network, recipe)
    with counted_flops() as counter:
        per_frame_step(network, recipe).backward()
    assert found.flops == counter.get_total_flops()
    # Each trained layer's backward pass takes two forward ones, the first one trained a single one; frozen ones none.
    assert 2.5 < found.flops / forward.get_total_flops() < 3
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert found.gradients == sum(grad.numel() * 4 for grad in gradients)
    assert found.trained == sum(grad.numel() for grad in gradients) < found.parameters
    run = _Run(
        "base", per_frame.per_frame_modules(network), per_frame.parameter_groups(network, recipe), recipe, tmp_path, {}
    )
    run.optimizer.step()
    states = [value for state in run.optimizer.state.values() for value in state.values() if value.ndim]
    assert found.optimizer == sum(value.numel() * value.element_size() for value in states)
    averages = run.average.state.values()
    assert found.average == sum(value.numel() * value.element_size() for value in averages)
    assert found.weights == sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_a_convolution_in_groups_counts_as_much_backward_as_forward_twice(groups, kind):
    x = torch.randn(2, 8, 9, 11, requires_grad=True)
    convolution = kind(8, 16, 3, stride=2, groups=groups)
    with FlopCounterMode(display=False) as forward:
        y = convolution(x)
    with counted_flops() as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 2 * forward.get_total_flops()
    # By hand: every weight meets every place of the smaller map.
    places = (y if kind is torch.nn.Conv2d else x).shape
    assert forward.get_total_flops() == 2 * places[0] * places[2] * places[3] * convolution.weight.numel()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_activations_are_what_stays_in_memory_after_the_forward_pass(precision):
    recipe = change(recipe_of("lite", "base"), batch=2, precision=precision, output_stride=8)
    network = models.build("lite")
    per_frame_step(network, recipe).backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = per_frame_step(network, recipe)
    held = sum(event.self_cpu_memory_usage for event in seen.key_averages())
    assert loss.requires_grad
    assert estimate("base", network, recipe, SIZE).activations == pytest.approx(held, rel=0.1)


@pytest.mark.thorough
def test_computing_activations_again_takes_less_memory_and_more_work():
    plain = change(recipe_of("resnet101", "base"), batch=2, precision="float32")
    again = change(plain, recompute=True)
    network = models.build("resnet101")
    kept, less = (estimate("base", network, recipe, (97, 97)) for recipe in (plain, again))
    assert less.activations < 0.45 * kept.activations
    assert 1.25 < less.flops / kept.flops < 1.34  # a forward pass of three
    assert not any(type(p) is not torch.nn.Parameter for p in network.parameters()), "left fake"


@pytest.mark.parametrize("stage", ["propagation", "selector", "distill"])
def test_the_stages_on_pairs_count_what_they_train(stage, tiny_matching_network):
    network = tiny_matching_network
    before = copy.deepcopy(network.state_dict())
    found = estimate(stage, network, Recipe(steps=1, batch=4, learning_rate=1e-3, pairs=8, accumulate=2), SIZE)
    fresh = estimate(stage, network, Recipe(steps=1, batch=4, learning_rate=1e-3, accumulate=2), SIZE)
    names = {"selector": ("reduction", "selector")}.get(stage, ("reduction", "predictor", "adapt", "fusion"))
    assert found.trained == sum(p.numel() for name in names for p in getattr(network, name).parameters())
    assert found.activations > 0 and found.passes == 2
    assert (fresh.flops > found.flops) == (stage != "distill"), "frozen work of pairs drawn afresh"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())


def test_a_step_of_propagation_takes_what_is_estimated(tiny_matching_network):
    network = tiny_matching_network
    recipe = Recipe(steps=1, batch=2, learning_rate=1e-3, pairs=8)
    found = estimate("propagation", network, recipe, SIZE)
    from lowlat.lab.methods import View
    from lowlat.lab.train.bank import Batch

    with torch.no_grad():
        low = network.lower(torch.rand(2, 3, *SIZE))
        high = network.higher(low)
    network.requires_grad_(False)
    method = build(OURS, network)
    method.learned.requires_grad_(True).train()
    view, counts = View(None, low), []
    for places in ([1], [0, 1]):
        batch = Batch(view, high, (view, view), torch.zeros(2, *SIZE, dtype=torch.int64), None)
        with counted_flops() as counter:
            propagation.pairs_loss(method, batch, None, places).total.backward()
        counts.append(counter.get_total_flops())
    network.requires_grad_(True)
    share = propagation.HOP_SHARE
    assert found.flops == int((1 - share) * counts[0] + share * counts[1])


def test_the_papers_network_fits_a_gpu_and_the_time_follows_from_the_figures():
    report = dry_run("base", network="resnet101", batch=2)
    found = report["base"]
    assert (report["frame"], found["size"], found["batch"]) == ("2048x1024", "713x713", 2)
    # The classifier tells 19 classes apart; torchvision's ResNet-101 has 42.5 million parameters without its own.
    assert 60e6 < found["trained"] < 70e6 < found["parameters"]
    # By hand: 0.485 tera multiply-adds forward an image (layer3 0.21, layer4 0.11, the head's 3x3 0.15), three passes.
    assert found["flops"] / 2 == pytest.approx(6 * 0.485e12, rel=0.1)
    assert found["h200_s"] >= round(found["flops"] / (SHARE * 989.5e12), 4)
    assert found["bytes"] < 141e9


@pytest.mark.thorough
def test_every_plan_can_be_estimated_on_data(camvid):
    for name, plan in PLANS.items():
        report = dry_run("all", network=name, data=str(camvid), batch=2, pixels=96 * 72)
        assert [stage for stage in report if stage in plan.recipes] == list(plan.order)
        assert report["frame"] == "480x360" and report["base"]["size"] == "96x72"


def test_a_frozen_copy_of_the_network_is_counted(tiny_matching_network):
    network = tiny_matching_network
    recipe = Recipe(steps=1, batch=4, learning_rate=1e-3, pairs=8)
    own = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    copies = {stage: estimate(stage, network, recipe, SIZE).weights / own for stage in PLANS["lite"].recipes}
    assert copies == {"base": 1, "finetune": 1, "propagation": 2, "selector": 2, "distill": 2}


def test_what_a_training_would_refuse_is_not_estimated():
    with pytest.raises(ValueError, match="--pairs with propagation, selector or all, got it with 'base'"):
        dry_run("base", pairs=4)
    with pytest.raises(ValueError, match="at least 2 examples a pass in 'base', got a batch of 4 in 4 passes"):
        dry_run("base", batch=4, accumulate=4)


def test_what_there_is_not_can_not_be_estimated():
    with pytest.raises(ValueError, match="stage among base, .* or distill, got 'everything'"):
        dry_run("everything")
    with pytest.raises(ValueError, match="network among lite, resnet101, or an adopted one .* got 'vgg'"):
        dry_run("all", network="vgg")
