"""Estimates what a training costs without computing it: parameters, FLOPs and bytes of a step of each stage.

The stages' own losses run on fake tensors, which have shapes and no numbers. PyTorch's `FlopCounterMode` counts FLOPs
of the forward and the backward pass. Activations are what autograd keeps for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lowlat import models
from lowlat.classes import Classes
from lowlat.lab.data import recording
from lowlat.lab.data.dataset import labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.methods import OURS, View
from lowlat.lab.methods import build as build_method
from lowlat.lab.train import distillation, per_frame, propagation, selector
from lowlat.lab.train.bank import Batch
from lowlat.lab.train.fakes import Kept, faked
from lowlat.lab.train.recipe import PRECISIONS, Recipe, change
from lowlat.lab.train.recipes import DEFAULT, PER_FRAME, STAGES, check_used, plan_of
from lowlat.lab.train.recompute import links_of
from lowlat.lab.train.start import build, check_pixels, name_of
from lowlat.networks.backbone import first_of
from lowlat.networks.video_network import VideoNetwork

# NVIDIA, "H200 Tensor Core GPU" datasheet: 1,979 TFLOPS in bfloat16 and float16, 989 in TF32, both with sparsity, of
# which dense work gets half; 4.8 TB/s, 141 GB.
PEAK = {"bfloat16": 989.5e12, "float16": 989.5e12, "float32": 494.5e12}
BANDWIDTH = 4.8e12
MEMORY = 141e9
# Assumptions of ours, measured on nothing: the share of the peak that convolutions reach, and how often each byte that
# is kept for the backward pass goes to the memory or comes from it (written and read forward; read, and its gradient
# written and read, backward).
SHARE = 0.35
CROSSINGS = 5


@dataclass(frozen=True)
class Estimate:
    """What a step of one stage takes; bytes are those of one process and one pass.

    Attributes:
        size: width and height of the crops that are trained on.
        parameters, trained: how many numbers the whole network has, and how many the stage trains.
        flops: FLOPs of a step, over all passes: forward, backward, and what is computed again or frozen.
        weights: bytes of all parameters and buffers; twice if a frozen copy of the network makes the features.
        gradients, optimizer, average: bytes of what is kept for the trained parameters.
        activations: bytes kept from the forward for the backward pass.
        h200_s: seconds of a step on one H200, the larger of those by FLOPs and by bytes.
    """

    steps: int
    size: str
    batch: int
    passes: int
    precision: str
    parameters: int
    trained: int
    flops: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    h200_s: float

    @property
    def bytes(self) -> int:
        """All bytes together."""
        return self.weights + self.gradients + self.optimizer + self.average + self.activations


def dry_run(
    stage: str = "all",
    *,
    data: str | None = None,
    network: str | None = None,
    init: str | None = None,
    pixels: int | str | None = "default",
    **changes,
) -> dict[str, object]:
    """Return what `lowlat.lab.train.train` would take with the same arguments, by stage, as plain values for JSON.

    Args:
        data: the set whose frames and classes count; without, 19 classes and frames of the network's plan.

    Raises:
        ValueError: an unknown stage or network, or options that make no sense.
    """
    check_pixels(pixels)
    if stage not in (*STAGES, "all", "distill"):
        raise ValueError(
            f"train: expected a stage among {', '.join(STAGES)}, all or distill, got {stage!r}; name one of them"
        )
    check_used(stage, changes)
    name = name_of(network, init, DEFAULT)
    plan = plan_of(name)
    frame, legend = plan.frame, Classes.numbered(19)
    if data is not None:
        labelled = open_dataset(data, "train")
        frame = tuple(labelled.image(labelled_indices(labelled)[0]).shape[-2:])
        legend = Classes(labelled.classes, labelled.palette)
    report: dict[str, object] = {"network": name, "frame": f"{frame[1]}x{frame[0]}"}
    given = models.load(init) if init else None
    fresh = ":" not in name and (given is None or "head" in given.untrained)
    made: dict[int | None, VideoNetwork] = {}
    for stage_name in plan.order if stage == "all" else (stage,):
        recipe = change(plan.recipes[stage_name], **changes)
        if stage_name in PER_FRAME:
            per_frame.check_examples(stage_name, recipe)
        if recipe.output_stride not in made:
            made[recipe.output_stride] = _network(name, legend, recipe, given)
        built = made[recipe.output_stride]
        if pixels != "default":
            built.pixels = pixels
        elif fresh:
            built.pixels = min(plan.frame[0] * plan.frame[1], frame[0] * frame[1])
        found = estimate(stage_name, built, recipe, per_frame.view_size(built, frame, recipe.crop))
        share = round(found.bytes / MEMORY, 3)
        report[stage_name] = {**asdict(found), "bytes": found.bytes, "share_of_h200_memory": share}
    report["assumed"] = f"{SHARE:.0%} of the peak, {CROSSINGS} crossings of the memory a byte kept; nothing measured"
    return report


def _network(name: str, legend: Classes, recipe: Recipe, given: VideoNetwork | None) -> VideoNetwork:
    network = models.build(name) if ":" in name else build(name, legend, recipe, given and given.options)
    if given is not None:
        network.pixels = given.pixels
    return network


def estimate(stage: str, network: VideoNetwork, recipe: Recipe, size: tuple[int, int]) -> Estimate:
    """Count a step of ``stage`` on crops of ``size`` (height, width); ``network`` is left as it is."""
    count = recipe.share(1)
    if ":" in network.name:
        # The parts for frames of this size are made when the first one comes.
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, *size))
    with faked(network):
        trained, losses = _step(stage, network, recipe, count, size)
        parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        counted = [_counted(loss, recipe) for loss in losses]
        flops = sum(weight * loss_flops for (weight, _), (loss_flops, _) in zip(losses, counted, strict=True))
        activations = max(kept for _, kept in counted)
        if recipe.recompute and stage in PER_FRAME:
            activations = _kept_by_links(network, count, size, recipe)
        # SGD's momentum takes as many bytes as the parameters, AdamW's two averages twice as many.
        states = 1 if recipe.optimizer == "sgd" else 2
        gradients = _bytes(parameters)
        step_flops = int(flops * recipe.accumulate)
        seconds = max(
            step_flops / (SHARE * PEAK[recipe.precision]),
            CROSSINGS * activations * recipe.accumulate / BANDWIDTH,
        )
        return Estimate(
            steps=recipe.steps,
            size=f"{size[1]}x{size[0]}",
            batch=recipe.batch,
            passes=recipe.accumulate,
            precision=recipe.precision,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            trained=sum(parameter.numel() for parameter in parameters),
            flops=step_flops,
            weights=(1 if stage in PER_FRAME else 2) * _bytes([*network.parameters(), *network.buffers()]),
            gradients=gradients,
            optimizer=states * gradients,
            average=_bytes(trained.state_dict().values()),
            activations=activations,
            h200_s=round(seconds, 4),
        )


Loss = tuple[float, Callable[[], Tensor]]
"""How often a pass takes a loss, on average, and the loss."""


def _step(
    stage: str, network: VideoNetwork, recipe: Recipe, count: int, size: tuple[int, int]
) -> tuple[nn.Module, list[Loss]]:
    """Return what a stage trains, ready for it, and the losses of a pass."""
    frames = torch.zeros(count, 3, *size)
    labels = torch.zeros(count, *size, dtype=torch.int64)
    if stage in PER_FRAME:
        per_frame.train_mode(network, recipe.frozen)
        weights = torch.ones(network.classes)
        loss = per_frame.per_frame_loss
        return per_frame.per_frame_modules(network), [(1, lambda: loss(network, frames, labels, weights, recipe).total)]
    network.eval().requires_grad_(False)

    @torch.no_grad()
    def looked() -> tuple[Tensor, Tensor]:
        low = network.lower(network.normalise(frames))
        return first_of(low), network.higher(low)

    with torch.no_grad():
        low, high = looked()
    frozen: list[Loss] = []
    if stage != "distill" and not recipe.pairs:
        # Pairs drawn afresh: S_l of every frame, S_h of the key frame, and of the others too for the selector and where
        # the per-frame network teaches.
        later = 1 if stage == "selector" else recipe.between + 1
        whole = 1 + later if stage == "selector" or recipe.soft else 1
        frozen = [(whole, lambda: looked()[1]), (1 + later - whole, lambda: _low(network, frames))]
    if stage == "selector":
        trained = nn.ModuleList([network.reduction, network.selector])
        trained.requires_grad_(True)
        return trained, [*frozen, (1, lambda: selector.deviation_loss(network, low, low, torch.zeros(count)))]
    method = build_method(OURS, network)
    trained = method.learned
    trained.requires_grad_(True)
    share = propagation.HOP_SHARE
    if stage == "distill":
        with torch.no_grad():
            scores = network.classify(high)

        def distilled(middle: Tensor | None) -> Tensor:
            batch = recording.Batch(low, high, middle, low, scores)
            return distillation.divergence(distillation.fast_track(network, batch, "cpu"), scores, "soft", 1.0)

        return trained, [(1 - share, lambda: distilled(None)), (share, lambda: distilled(low))]
    trained.train()
    view = View(None, low)
    between = recipe.between
    scores = None
    if recipe.soft:
        with torch.no_grad():
            scores = network.classify(high)[:, None].expand(-1, between + 1, -1, -1, -1)
    batch = Batch(view, high, (view,) * (between + 1), labels, scores)

    def carried(stops: int) -> Tensor:
        places = [*range(stops), between]
        return propagation.pairs_loss(method, batch, None, places, recipe.soft).total

    # Any of the frames between, as often as any others.
    ways = [share * math.comb(between, stops) / (2**between - 1) for stops in range(1, between + 1)]
    losses = [(way, partial(carried, stops)) for stops, way in enumerate([1 - sum(ways), *ways])]
    return trained, [*frozen, *losses]


@torch.no_grad()
def _low(network: VideoNetwork, frames: Tensor) -> Tensor:
    return first_of(network.lower(network.normalise(frames)))


def _counted(loss: Loss, recipe: Recipe) -> tuple[int, int]:
    """Return the FLOPs of a loss and its gradient, and the bytes that autograd keeps for it."""
    kept = Kept()
    with counted_flops() as counter:
        with _precision(recipe), kept.watching():
            value = loss[1]()
        if value.requires_grad:
            value.sum().backward()
    return counter.get_total_flops(), kept.bytes


def counted_flops() -> FlopCounterMode:
    """PyTorch's counter, which takes the backward pass of a convolution in groups for one of a convolution without."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(gradient, x, weight, _bias, _stride, _padding, _dilation, transposed, *others, **_) -> int:
    """FLOPs from shapes: for the gradient of the input and of the weights as many each as the forward pass has."""
    places = x if transposed else gradient
    *_, wanted = others
    return 2 * places[0] * math.prod(places[2:]) * math.prod(weight) * sum(wanted[:2])


def _kept_by_links(network: VideoNetwork, count: int, size: tuple[int, int], recipe: Recipe) -> int:
    """Return what activation checkpointing keeps: what goes from link to link, and at most one link's own
    activations."""
    passed, most = Kept(), 0
    low = x = network.normalise(torch.zeros(count, 3, *size))
    lower, higher = links_of(network)
    with _precision(recipe):
        for number, run in enumerate([*lower, *higher, lambda high, _: network.classify(high)]):
            if number == len(lower):
                low = x
            kept = Kept()
            passed.add(x)
            with kept.watching():
                x = run(x, low)
            most = max(most, kept.bytes)
    return passed.bytes + most


def _precision(recipe: Recipe):
    dtype = PRECISIONS[recipe.precision]
    return torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()


def _bytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
